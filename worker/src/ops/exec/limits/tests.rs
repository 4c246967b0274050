//! What a definition may say of a step's limits.

use buildd_runtime::step::Cpu;

use super::*;

fn limited(pairs: &[(&str, &str)]) -> Result<StepLimits> {
    let most = StepLimits::new(100, 1 << 30);
    let description = pairs.iter().map(|(name, value)| (format!("{STEP_LIMIT}{name}"), (*value).to_owned()));
    let other = ("llb.customname".to_owned(), "RUN".to_owned());
    of(&description.chain([other]).collect(), &most)
}

#[test]
fn a_step_gets_what_it_asks_for_and_never_more_than_the_worker_gives() {
    let of = |pairs: &[(&str, &str)]| limited(pairs).expect("fine");
    assert_eq!((of(&[]).memory, of(&[]).swap, of(&[]).cpu), (1 << 30, None, Cpu::default()));
    assert_eq!(of(&[("memory", "10000000")]).memory, 10_000_000);
    assert_eq!(of(&[("memory", "2000000000")]).memory, 1 << 30);
    assert_eq!(of(&[("memory", "10000000"), ("memswap", "5000000")]).swap, Some(10_000_000));
    assert_eq!(of(&[("memswap", "-1")]).swap, Some(-1));
    let cpu =
        of(&[("cpushares", "2"), ("cpuperiod", "1000"), ("cpuquota", "-1"), ("cpusetcpus", "0-2,4")]).cpu;
    let told = Cpu {
        shares: Some(2),
        period: Some(1000),
        quota: Some(-1),
        cpus: "0-2,4".into(),
        mems: String::new(),
    };
    assert_eq!(cpu, told);
}

#[test]
fn limits_that_nobody_checked_are_refused_by_name() {
    for (name, value) in [
        ("memory", "-1"),
        ("memory", "x"),
        ("memswap", "-2"),
        ("cpushares", "-1"),
        ("cpusetcpus", "0\n1"),
        ("cpusetmems", "a"),
        ("disk", "1"),
    ] {
        let error = limited(&[(name, value)]).expect_err(name).to_string();
        assert!(error.contains(&format!("{name}={}", value.escape_debug())), "{error}");
    }
}
