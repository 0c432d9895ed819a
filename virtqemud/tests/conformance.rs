//! Likeness with the reference on its recorded cases; skipped unless `VIRT_CONFORMANCE` names their folder.

mod cases;

/// Percent of cases that must agree; raised as the code gets better.
const FLOORS: &[(&str, f64)] =
    &[("argv", 99.0), ("domain", 99.0), ("argv-cross", 95.0), ("domain-cross", 97.0)];

#[test]
fn recorded_cases_agree() {
    let Some(folder) = cases::cases() else {
        eprintln!("skipped: VIRT_CONFORMANCE is not set");
        return;
    };
    let emulators = virtqemud::emulator::Emulators::new(None);
    let foreign = ["aarch64", "s390x", "ppc64", "riscv64", "loongarch64"];
    let all_here = foreign.iter().all(|arch| emulators.binary_for(arch).is_some());
    for (suite, floor) in FLOORS {
        if suite.ends_with("-cross") && !all_here {
            eprintln!("skipped: {suite} needs emulators of other architectures");
            continue;
        }
        let score = cases::run(&folder, suite, "");
        for (name, text) in score.differences.iter().take(10) {
            println!("  {suite}/{name}: {text}");
        }
        println!("{suite} {} of {} {:.1}%", score.good, score.total, score.percent());
        assert!(score.percent() >= *floor, "{suite}: {:.1}% is under the floor of {floor}%", score.percent());
    }
}
