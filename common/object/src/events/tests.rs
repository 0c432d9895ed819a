use super::*;
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;

const FEW: Limits = Limits { events: 4, bytes: 1000 };

fn open(path: &Path, limits: Limits) -> Arc<Journal> {
    Arc::new(Journal::open(path, limits, Busy::new()).unwrap())
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/events");
    (dir, path)
}

fn rest(mut s: Subscription) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(event) = s.try_next().unwrap() {
        all.push(event.payload[0]);
    }
    all
}

#[tokio::test]
async fn events_arrive_in_order_and_wake() {
    let (_dir, path) = place();
    let j = open(&path, FEW);
    let mut s = j.subscribe(None).unwrap();
    assert_eq!(j.busy.count(), 1);
    let reader =
        tokio::spawn(async move { (s.next().await.unwrap().payload[0], s.next().await.unwrap().payload[0]) });
    tokio::task::yield_now().await;
    assert_eq!(j.append(vec![1]).number, 1);
    j.append(vec![2]);
    assert_eq!(reader.await.unwrap(), (1, 2));
    assert_eq!(j.busy.count(), 0);
}

#[test]
fn a_client_resumes_after_a_restart() {
    let (_dir, path) = place();
    let j = open(&path, FEW);
    let seen = j.append(vec![1]);
    j.append(vec![2]);
    // Killed: nothing is closed or flushed.
    std::mem::forget(j);
    let j = open(&path, FEW);
    assert_eq!(j.now(), Cursor { number: 2, ..seen });
    j.append(vec![3]);
    assert_eq!(rest(j.subscribe(Some(seen)).unwrap()), [2, 3]);
}

#[test]
fn gaps_are_told_apart() {
    let (_dir, path) = place();
    let j = open(&path, FEW);
    let start = j.now();
    let mut slow = j.subscribe(None).unwrap();
    for n in 0..10 {
        j.append(vec![n]);
    }
    assert_eq!(slow.try_next().unwrap_err(), Gap::Lagged);
    assert_eq!(j.subscribe(Some(start)).err(), Some(Gap::TooOld));
    assert_eq!(j.subscribe(Some(Cursor { number: 11, ..start })).err(), Some(Gap::Future));
    assert_eq!(j.subscribe(Some(Cursor { epoch: start.epoch ^ 1, number: 10 })).err(), Some(Gap::Epoch));
    assert_eq!(rest(j.subscribe(Some(Cursor { number: 6, ..start })).unwrap()), [6, 7, 8, 9]);
    assert_eq!(rest(j.subscribe(Some(Cursor { number: 10, ..start })).unwrap()), []);
    assert!(Gap::Lagged.error().message().contains("too slow"));
}

#[test]
fn the_file_stays_bounded() {
    let (_dir, path) = place();
    let j = open(&path, FEW);
    for n in 0..20_000u32 {
        j.append(n.to_le_bytes().repeat(25));
    }
    let size = fs::metadata(&path).unwrap().len();
    assert!(size < 600 * 1024, "{size}");
    drop(j);
    let j = open(&path, FEW);
    assert_eq!(j.now().number, 20_000);
    assert_eq!(rest(j.subscribe(Some(Cursor { epoch: j.epoch(), number: 19_998 })).unwrap()).len(), 2);
}

#[test]
fn a_foreign_file_starts_a_new_epoch() {
    let (_dir, path) = place();
    let first = open(&path, FEW).epoch();
    fs::write(&path, "something else").unwrap();
    let second = open(&path, FEW);
    assert_ne!(first, second.epoch());
    assert_eq!(second.now().number, 0);
}

#[test]
fn a_full_run_folder_loses_the_file_not_the_events() {
    let (_dir, path) = place();
    let j = open(&path, FEW);
    let before = j.epoch();
    let from = j.now();
    j.inner.lock().log.fail_writes();
    j.append(vec![7]);
    j.append(vec![8]);
    assert_eq!(rest(j.subscribe(Some(from)).unwrap()), [7, 8]);
    drop(j);
    assert_ne!(open(&path, FEW).epoch(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Cut or spoil the file anywhere: what is read back is a prefix of what was written, or a new epoch; and it can be
    /// appended to.
    #[test]
    fn any_damage_leaves_a_prefix(cut in 16usize..400, spoil in prop::option::of(16usize..400)) {
        let (_dir, path) = place();
        let j = open(&path, Limits::default());
        let epoch = j.epoch();
        for n in 0..12u8 {
            j.append(vec![n; usize::from(n) + 1]);
        }
        drop(j);
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(cut);
        let spoilt = spoil.and_then(|at| bytes.get_mut(at)).map(|byte| *byte ^= 0x40).is_some();
        fs::write(&path, &bytes).unwrap();
        let j = open(&path, Limits::default());
        prop_assert!(spoilt || j.epoch() == epoch);
        let epoch = j.epoch();
        let kept = rest(j.subscribe(Some(Cursor { epoch, number: 0 })).unwrap());
        prop_assert!(kept.iter().copied().eq(0..kept.len() as u8));
        let next = j.append(vec![99]);
        prop_assert_eq!(next.number, kept.len() as u64 + 1);
        drop(j);
        prop_assert_eq!(open(&path, Limits::default()).now(), next);
    }
}
