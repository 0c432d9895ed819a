//! How fast a guest dirties its memory.

use serde_json::{Value as Json, json};
use virt_consts::*;

use super::{Rows, ask};
use crate::config::params::{Param, Value};
use crate::guest::shared::Shared;
use crate::guest::{CUSTOM_MONITOR, Published};
use crate::qmp::Client;

/// The group of rows: the newest measurement, if QEMU made one. A QEMU that said it never measured is not asked again
/// until somebody asks for a measurement, or may have behind our back.
pub(super) async fn rows(p: &Published, shared: &Shared, monitor: Option<&Client>) -> Vec<Param> {
    let Some(monitor) = monitor.filter(|_| p.is_active()) else { return Vec::new() };
    let unstarted = || json!({ "status": "unstarted", "start-time": 0, "calc-time": 0 });
    let answer = match shared.measurements() {
        None if !p.taints.contains(&CUSTOM_MONITOR) => unstarted(),
        asked => {
            let answer = ask(monitor, "query-dirty-rate", Json::Null).await;
            if let (Some("unstarted"), Some(asked)) = (answer["status"].as_str(), asked) {
                shared.never_measured(asked);
            }
            answer
        }
    };
    read(&answer)
}

fn read(answer: &Json) -> Vec<Param> {
    let mut rows = Rows::default();
    let status = match answer["status"].as_str() {
        Some("unstarted") => VIR_DOMAIN_DIRTYRATE_UNSTARTED,
        Some("measuring") => VIR_DOMAIN_DIRTYRATE_MEASURING,
        Some("measured") => VIR_DOMAIN_DIRTYRATE_MEASURED,
        _ => return Vec::new(),
    };
    let number = |key: &str| answer[key].as_i64().unwrap_or(0);
    rows.put(VIR_DOMAIN_STATS_DIRTYRATE_CALC_STATUS, Value::Int(status));
    rows.put(VIR_DOMAIN_STATS_DIRTYRATE_CALC_START_TIME, Value::Llong(number("start-time")));
    let period = i32::try_from(number("calc-time")).unwrap_or(i32::MAX);
    rows.put(VIR_DOMAIN_STATS_DIRTYRATE_CALC_PERIOD, Value::Int(period));
    let mode = answer["mode"].as_str().unwrap_or("page-sampling");
    rows.put(VIR_DOMAIN_STATS_DIRTYRATE_CALC_MODE, Value::String(mode.into()));
    if status == VIR_DOMAIN_DIRTYRATE_MEASURED {
        if let Some(rate) = answer["dirty-rate"].as_i64() {
            rows.put(VIR_DOMAIN_STATS_DIRTYRATE_MEGABYTES_PER_SECOND, Value::Llong(rate));
        }
        for vcpu in answer["vcpu-dirty-rate"].as_array().into_iter().flatten() {
            if let (Some(id), Some(rate)) = (vcpu["id"].as_u64(), vcpu["dirty-rate"].as_u64()) {
                rows.number(format!("dirtyrate.vcpu.{id}.megabytes_per_second"), rate);
            }
        }
    }
    rows.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rates_are_told_once_they_are_measured() {
        let names = |answer: Json| read(&answer).into_iter().map(|p| p.name).collect::<Vec<_>>().join(" ");
        let four =
            "dirtyrate.calc_status dirtyrate.calc_start_time dirtyrate.calc_period dirtyrate.calc_mode";
        assert_eq!(names(json!({"status": "unstarted", "dirty-rate": 3})), four);
        let measured = json!({"status": "measured", "mode": "dirty-ring", "dirty-rate": 3,
            "vcpu-dirty-rate": [{"id": 0, "dirty-rate": 3}]});
        let all = format!("{four} dirtyrate.megabytes_per_second dirtyrate.vcpu.0.megabytes_per_second");
        assert_eq!(names(measured), all);
        assert_eq!(names(json!(null)), "");
    }
}
