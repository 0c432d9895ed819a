#![allow(clippy::unit_arg, reason = "jobs of one push read best in one line")]

use super::*;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

type Log = Vec<&'static str>;

fn kind() -> Arc<Kind> {
    Arc::new(Kind::new(Domain::Qemu, tokio::runtime::Handle::current(), Busy::new()))
}

fn owner() -> Owner<Log, Notify> {
    Owner::new(kind(), Vec::new(), Arc::new(Notify::new()))
}

const CHANGE: Spec = Spec::new("change", Class::Modify);

async fn log_of(owner: &Owner<Log, Notify>) -> Log {
    owner.run(Spec::new("look", Class::Query), |s| Box::pin(async move { Ok(s.clone()) })).await.unwrap()
}

/// A job that hangs until the shared handle is notified.
fn hang(owner: &Owner<Log, Notify>) -> tokio::task::JoinHandle<Result<()>> {
    let owner = owner.clone();
    tokio::spawn(async move {
        let gate = owner.handle().clone();
        owner
            .run(Spec::new("hang", Class::Modify), move |s| {
                Box::pin(async move {
                    gate.notified().await;
                    s.push("hang ended");
                    Ok(())
                })
            })
            .await
    })
}

#[tokio::test]
async fn jobs_run_in_turn_and_the_task_ends() {
    let o = owner();
    let gate = hang(&o);
    tokio::task::yield_now().await;
    for name in ["a", "b", "c"] {
        o.post(CHANGE, move |s| Box::pin(async move { Ok(s.push(name)) })).unwrap();
    }
    assert_eq!(o.holders().running.unwrap().name, "hang");
    o.handle().notify_one();
    gate.await.unwrap().unwrap();
    assert_eq!(log_of(&o).await, ["hang ended", "a", "b", "c"]);
    tokio::task::yield_now().await;
    assert_eq!(o.holders(), Holders::default());
    assert_eq!(o.shared.kind.busy.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_holder_named() {
    let o = owner();
    let gate = hang(&o);
    tokio::task::yield_now().await;
    tokio::time::advance(Duration::from_secs(2)).await;
    let error = o.run(CHANGE, |_| Box::pin(async { Ok(()) })).await.unwrap_err();
    assert_eq!(
        error.message(),
        "Timed out during operation: cannot acquire state change lock (held by hang for 32s)"
    );
    assert_eq!((error.code(), error.domain()), (Code::OperationTimeout, Domain::Qemu));
    let fast = CHANGE.wait(Wait::FailFast);
    assert_eq!(o.run(fast, |_| Box::pin(async { Ok(()) })).await.unwrap_err().code(), Code::OperationTimeout);
    o.handle().notify_one();
    gate.await.unwrap().unwrap();
    o.run(fast, |_| Box::pin(async { Ok(()) })).await.unwrap();
}

#[tokio::test]
async fn a_full_mailbox_says_busy() {
    let o =
        Owner::new(Arc::new(Kind { capacity: 2, ..(*kind()).clone() }), Log::new(), Arc::new(Notify::new()));
    let _gate = hang(&o);
    tokio::task::yield_now().await;
    for _ in 0..2 {
        o.post(CHANGE, |_| Box::pin(async { Ok(()) })).unwrap();
    }
    let error = o.post(CHANGE, |_| Box::pin(async { Ok(()) })).unwrap_err();
    assert!(error.message().ends_with("(held by hang) due to max_queued limit"), "{error}");
}

#[tokio::test]
async fn a_caller_that_leaves_takes_nothing_back() {
    let o = owner();
    let gate = hang(&o);
    tokio::task::yield_now().await;
    {
        let waiting = o.run(CHANGE, |s| Box::pin(async move { Ok(s.push("changed")) }));
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
    }
    o.handle().notify_one();
    gate.await.unwrap().unwrap();
    assert_eq!(log_of(&o).await, ["hang ended", "changed"]);
}

#[tokio::test]
async fn a_panic_ends_one_job_only() {
    let o = owner();
    let broken = o.run(CHANGE, |_| -> BoxFuture<'_, Result<()>> { panic!("in the closure") }).await;
    assert_eq!(broken.unwrap_err().message(), "internal error: change failed unexpectedly");
    let broken: Result<()> = o
        .run(CHANGE, |s| {
            Box::pin(async move {
                s.push("half done");
                tokio::task::yield_now().await;
                panic!("in the future")
            })
        })
        .await;
    assert_eq!(broken.unwrap_err().code(), Code::InternalError);
    assert_eq!(log_of(&o).await, ["half done"]);
}

#[tokio::test(start_paused = true)]
async fn a_kill_goes_past_a_hanging_job() {
    let o = owner();
    let gate = hang(&o);
    tokio::task::yield_now().await;
    o.post(CHANGE, |s| Box::pin(async move { Ok(s.push("waited")) })).unwrap();
    // The act makes the hanging job end by itself (as a killed process closes its monitor).
    let act = async |handle: Arc<Notify>| {
        handle.notify_one();
        Ok(())
    };
    let spec = Spec::new("destroy", Class::Destroy);
    o.kill(spec, Duration::from_secs(5), act, |s| Box::pin(async move { Ok(s.push("settled")) }))
        .await
        .unwrap();
    gate.await.unwrap().unwrap();
    assert_eq!(log_of(&o).await, ["hang ended", "settled", "waited"]);

    // A job that ignores the act is cut after the grace time, and only that job.
    let gate = hang(&o);
    tokio::task::yield_now().await;
    let start = Instant::now();
    let nothing = |_| async { Ok(()) };
    o.kill(spec, Duration::from_secs(5), nothing, |s| Box::pin(async move { Ok(s.push("cut")) }))
        .await
        .unwrap();
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(gate.await.unwrap().unwrap_err().code(), Code::OperationAborted);
    assert_eq!(log_of(&o).await.last(), Some(&"cut"));
}

#[tokio::test]
async fn a_long_job_lets_queries_through_and_holds_changes() {
    let o = owner();
    let long = o.begin(Spec::new("migration", Class::Long)).await.unwrap();
    long.step("first", |s| Box::pin(async move { Ok(s.push("first")) })).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let change = tokio::spawn({
        let (o, done) = (o.clone(), done.clone());
        async move {
            o.run(CHANGE, |s| Box::pin(async move { Ok(s.push("changed")) })).await.unwrap();
            done.store(true, Ordering::SeqCst);
        }
    });
    let other = tokio::spawn({
        let o = o.clone();
        async move { o.begin(Spec::new("save", Class::Long)).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert_eq!(log_of(&o).await, ["first"]);
    long.step("second", |s| Box::pin(async move { Ok(s.push("second")) })).await.unwrap();
    assert!(!done.load(Ordering::SeqCst) && !other.is_finished());
    let error = o.run(CHANGE.wait(Wait::FailFast), |_| Box::pin(async { Ok(()) })).await.unwrap_err();
    assert!(error.message().contains("held by migration for 0s"), "{error}");
    drop(long);
    change.await.unwrap();
    other.await.unwrap().unwrap();
    assert_eq!(log_of(&o).await, ["first", "second", "changed"]);
}

#[tokio::test]
async fn admission_can_refuse() {
    fn never_modify(_: &Holders, spec: &Spec) -> Verdict {
        match spec.class {
            Class::Modify => Verdict::Refuse(Error::new(Code::OperationInvalid, Domain::Qemu, "no")),
            _ => Verdict::Admit,
        }
    }
    let o: Owner<Log> =
        Owner::new(Arc::new(Kind { admission: never_modify, ..(*kind()).clone() }), Log::new(), Arc::new(()));
    assert_eq!(
        o.run(CHANGE, |_| Box::pin(async { Ok(()) })).await.unwrap_err().code(),
        Code::OperationInvalid
    );
}

#[tokio::test]
async fn ten_thousand_idle_owners_are_small_and_have_no_task() {
    let kind = kind();
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let owners: Vec<Owner<[u64; 4]>> =
        (0..10_000).map(|_| Owner::new(kind.clone(), [0; 4], Arc::new(()))).collect();
    for o in &owners {
        o.run(CHANGE, |s| Box::pin(async move { Ok(s[0] += 1) })).await.unwrap();
    }
    tokio::task::yield_now().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), before);
    let fixed = size_of::<Shared<[u64; 4], ()>>();
    assert!(fixed <= 320, "an idle owner takes {fixed} bytes");
}

/// A job that notices when another one runs at the same time.
fn exclusive(s: &mut (bool, usize), overlaps: Arc<Mutex<usize>>) -> BoxFuture<'_, Result<()>> {
    Box::pin(async move {
        if std::mem::replace(&mut s.0, true) {
            *overlaps.lock() += 1;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        s.0 = false;
        s.1 += 1;
        Ok(())
    })
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Run(Class),
    Post(Class),
    Abandon(Class),
    Kill,
    Long,
    Panic,
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Query), Just(Class::Modify), Just(Class::Lifecycle), Just(Class::Abort)]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        class().prop_map(Act::Run),
        class().prop_map(Act::Post),
        class().prop_map(Act::Abandon),
        Just(Act::Kill),
        Just(Act::Long),
        Just(Act::Panic),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the mix: jobs never overlap, every admitted job ends, nothing stays behind.
    #[test]
    fn any_mix_of_requests_settles(acts in prop::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let o: Owner<(bool, usize)> = Owner::new(kind(), (false, 0), Arc::new(()));
            let overlaps = Arc::new(Mutex::new(0));
            let mut callers = Vec::new();
            let mut expected = 0;
            for act in acts {
                let (o, l) = (o.clone(), overlaps.clone());
                expected += usize::from(!matches!(act, Act::Panic | Act::Long));
                callers.push(tokio::spawn(async move {
                    match act {
                        Act::Run(class) => o.run(Spec::new("run", class), move |s| exclusive(s, l)).await.unwrap(),
                        Act::Post(class) => o.post(Spec::new("post", class), move |s| exclusive(s, l)).unwrap(),
                        Act::Abandon(class) => {
                            let call = o.run(Spec::new("left", class), move |s| exclusive(s, l));
                            tokio::pin!(call);
                            let _ = futures_util::poll!(&mut call);
                        }
                        Act::Kill => {
                            let grace = Duration::from_secs(1);
                            let spec = Spec::new("kill", Class::Destroy);
                            o.kill(spec, grace, |_| async { Ok(()) }, move |s| exclusive(s, l)).await.unwrap();
                        }
                        Act::Long => {
                            let long = o.begin(Spec::new("long", Class::Long)).await.unwrap();
                            long.step("step", |_| Box::pin(async { Ok(()) })).await.unwrap();
                        }
                        Act::Panic => {
                            o.run(CHANGE, |_| -> BoxFuture<'_, Result<()>> { panic!("on purpose") }).await.unwrap_err();
                        }
                    }
                }));
            }
            for caller in callers {
                caller.await.unwrap();
            }
            let look = Spec::new("look", Class::Query);
            let done = o.run(look, |s| Box::pin(async move { Ok(s.1) })).await.unwrap();
            assert_eq!((done, *overlaps.lock()), (expected, 0));
            tokio::task::yield_now().await;
            assert_eq!((o.holders(), o.shared.kind.busy.count()), (Holders::default(), 0));
        });
    }

    /// The default rules are total and only ever hold requests back for a long job.
    #[test]
    fn default_rules_wait_only_for_long_jobs(running in prop::option::of(class()), long: bool, request in class()) {
        let spec = |class| Spec::new("x", class);
        let holders = Holders { running: running.map(spec), long: long.then(|| spec(Class::Long)) };
        match default_admission(&holders, &spec(request)) {
            Verdict::Admit => prop_assert!(!long || matches!(request, Class::Query | Class::Abort | Class::Destroy)),
            Verdict::Queue => prop_assert!(long),
            Verdict::Refuse(e) => prop_assert!(false, "{e}"),
        }
    }
}
