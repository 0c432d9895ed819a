//! Volumes' streams: records of a daemon ([`virt_rpc::bulk`]) on one side, frames on the other.

use std::time::Duration;

use bytes::Bytes;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::UnboundedReceiver;
use virt_error::{Domain, Error};
use virt_rpc::bulk::{Incoming, Outgoing, Record};
use virt_wire::conn::Outbox;
use virt_wire::frame::{Header, OutFrame};

use super::{End, Part, Way};

/// How long a daemon that takes no more data has to say why.
const LAST_WORDS: Duration = Duration::from_secs(5);

fn lost(e: std::io::Error) -> End {
    End::Failed(Error::system(Domain::Streams, "Unable to transfer a volume's data", e))
}

/// Carries a daemon's records to the client. Does not return after their end: the client has to finish the stream.
pub(super) async fn to_client(call: Header, outbox: &Outbox, read: OwnedReadHalf) -> End {
    let mut incoming = Incoming::new(read);
    loop {
        let mut last = false;
        let frame = match incoming.next().await {
            Ok(Some(Record::Data(data))) => OutFrame::stream_data(call, data),
            Ok(Some(Record::Hole(length))) => {
                Ok(OutFrame::stream_hole(call, i64::try_from(length).unwrap_or(i64::MAX)))
            }
            Ok(Some(Record::End)) => {
                last = true;
                OutFrame::stream_data(call, Bytes::new())
            }
            Ok(Some(Record::Done)) => return End::Confirm,
            Ok(Some(Record::Failure(error))) => return End::Failed(error),
            Ok(None) => return lost(std::io::ErrorKind::UnexpectedEof.into()),
            Err(e) => return lost(e),
        };
        let Ok(frame) = frame else { return End::Silent };
        if outbox.send(frame).await.is_err() {
            return End::Silent;
        }
        if last {
            return std::future::pending().await;
        }
    }
}

/// Carries the client's data and holes to the daemon. After the client's finish of an upload the daemon has the last
/// word; a download that is finished is over.
pub(super) async fn to_daemon(way: Way, write: OwnedWriteHalf, mut parts: UnboundedReceiver<Part>) -> End {
    let mut outgoing = Outgoing::new(write);
    while let Some(part) = parts.recv().await {
        // Room is given back when the data is away: that holds a fast client back.
        let (record, _room) = match (part, way) {
            (Part::Finish, Way::Upload) => (Record::End, None),
            (Part::Finish, Way::Raw | Way::Download) => return End::Confirm,
            (Part::Data(data, room), Way::Upload) => (Record::Data(data), Some(room)),
            (Part::Hole(length), Way::Upload) => (Record::Hole(length), None),
            // Nobody wants data of a client that downloads.
            (Part::Data(..) | Part::Hole(_), Way::Raw | Way::Download) => continue,
        };
        if let Err(e) = outgoing.send(record).await {
            // The reading side returns first, with the daemon's reason.
            tokio::time::sleep(LAST_WORDS).await;
            return lost(e);
        }
    }
    End::Silent
}
