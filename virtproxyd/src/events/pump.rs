//! The watch on one daemon: started once, resumed by cursor, ended with the link when events were lost.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use virt_api::common::v1alpha1::Cursor;
use virt_error::Result;
use virt_wire::program::ProcInfo;

use super::Events;
use crate::api::watch::{Feed, Lost, Watch};
use crate::link::Link;
use crate::refusal;

/// How long a daemon may take to begin a watch.
const BEGIN: Duration = Duration::from_secs(10);
/// How long a daemon may be away before the client is told that events are lost.
const AWAY: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Makes sure that events flow; returns when every later event will be seen.
pub(crate) async fn start<T: Feed>(
    link: &Arc<Link>,
    events: &Arc<Events>,
    info: &'static ProcInfo,
) -> Result<()> {
    let _one_at_a_time = events.starting.lock().await;
    if events.watching(T::OBJECT) {
        return Ok(());
    }
    let mut begun = begin::<T>(link, info, None).await;
    if let Err(Lost::Away(error)) = &begun {
        // The daemon may have ended under the call; the next one begins a watch as well.
        tracing::debug!(?error, "beginning a watch again");
        begun = begin(link, info, None).await;
    }
    let watch = match begun {
        Ok(watch) => watch,
        Err(Lost::Away(error)) => return Err(error),
        Err(Lost::Gap) => return Err(refusal::rpc("the daemon refused to begin a watch")),
    };
    // Weak: the pump must keep neither the link nor its registrations alive.
    let pump = tokio::spawn(pump(Arc::downgrade(link), Arc::downgrade(events), info, watch));
    events.set_pump(T::OBJECT, pump.abort_handle());
    Ok(())
}

async fn begin<T: Feed>(
    link: &Arc<Link>,
    info: &'static ProcInfo,
    after: Option<Cursor>,
) -> Result<Watch<T>, Lost> {
    let late = |_| Lost::Away(refusal::rpc("the daemon did not begin a watch in time"));
    timeout(BEGIN, Watch::begin(link, info, after)).await.map_err(late)?
}

async fn pump<T: Feed>(link: Weak<Link>, events: Weak<Events>, info: &'static ProcInfo, mut watch: Watch<T>) {
    loop {
        while let Some(event) = watch.next().await {
            if !deliver(&link, &events, &event).await {
                return;
            }
        }
        match resume(&link, info, watch.cursor).await {
            Some(resumed) => watch = resumed,
            None => return,
        }
    }
}

/// Sends an event's messages; a client that does not read holds this up, and the daemon ends the watch of a laggard.
async fn deliver<T: Feed>(link: &Weak<Link>, events: &Weak<Events>, event: &T) -> bool {
    let messages = events.upgrade().map(|e| e.messages(event)).unwrap_or_default();
    let Some(outbox) = link.upgrade().map(|l| l.outbox().clone()) else { return false };
    for message in messages {
        if outbox.send(message).await.is_err() {
            return false;
        }
    }
    true
}

/// Goes on after `cursor`. `None`: the client left, or events are lost and the link is ending.
async fn resume<T: Feed>(link: &Weak<Link>, info: &'static ProcInfo, cursor: Cursor) -> Option<Watch<T>> {
    let deadline = Instant::now() + AWAY;
    let mut pause = FIRST_PAUSE;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let link = link.upgrade()?;
        match begin(&link, info, Some(cursor)).await {
            Ok(watch) => return Some(watch),
            Err(Lost::Away(error)) if Instant::now() < deadline => {
                tracing::debug!(?error, "cannot resume yet")
            }
            Err(_) => {
                tracing::warn!("events were lost; ending the client's link");
                link.end_for_lost_events();
                return None;
            }
        }
    }
}
