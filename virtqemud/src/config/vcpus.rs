//! How many vCPUs a guest has and may have.

use virt_error::{Code, Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::vcpu::VcpuState;

/// The most vCPUs.
pub fn maximum(domain: &Domain) -> u32 {
    domain.vcpu.as_ref().and_then(|v| v.max).unwrap_or(1)
}

/// vCPUs in use.
pub fn current(domain: &Domain) -> u32 {
    let vcpu = domain.vcpu.as_ref();
    vcpu.and_then(|v| v.current).unwrap_or_else(|| maximum(domain))
}

/// Numbers of the vCPUs in use.
pub fn enabled(domain: &Domain) -> Vec<u32> {
    if domain.vcpus.vcpus.is_empty() {
        return (0..current(domain)).collect();
    }
    domain.vcpus.vcpus.iter().filter(|v| v.enabled).map(|v| v.id).collect()
}

/// Sets how many there may be; more in use come down with it.
///
/// # Errors
/// Code 55 when the CPU's topology says another number.
pub fn set_maximum(domain: &mut Domain, count: u32) -> Result<()> {
    let topology = domain.cpu.as_ref().and_then(|c| c.topology.as_ref());
    if let Some(t) = topology {
        let parts = [t.sockets, t.dies, t.clusters, t.cores, t.threads];
        let product = parts.into_iter().flatten().try_fold(1u32, u32::checked_mul);
        if product != Some(count) {
            let text = "CPU topology doesn't match the desired vcpu count";
            return Err(Error::new(Code::InvalidArg, From::Qemu, text));
        }
    }
    let now = current(domain).min(count);
    let had_states = !domain.vcpus.vcpus.is_empty();
    let vcpu = domain.vcpu.get_or_insert_default();
    vcpu.max = Some(count);
    vcpu.current = (now < count).then_some(now);
    if had_states {
        domain.vcpus.vcpus.retain(|v| v.id < count);
        let known = u32::try_from(domain.vcpus.vcpus.len()).unwrap_or(count);
        domain.vcpus.vcpus.extend((known..count).map(off));
        tidy(domain);
    }
    Ok(())
}

/// Sets how many are in use. `hotpluggable` marks the ones that this turns on or off as removable.
///
/// # Errors
/// Code 8 above the maximum.
pub fn set_current(domain: &mut Domain, count: u32, hotpluggable: bool) -> Result<()> {
    let max = maximum(domain);
    if count > max {
        let text = format!(
            "requested vcpus is greater than max allowable vcpus for the persistent domain: {count} > {max}"
        );
        return Err(Error::new(Code::InvalidArg, From::Qemu, text));
    }
    let had_states = !domain.vcpus.vcpus.is_empty();
    if hotpluggable || had_states {
        list(domain);
        // As in the reference: where single ones are listed, one that is turned on can be turned off again.
        switch(&mut domain.vcpus.vcpus, count as usize, true);
    }
    let vcpu = domain.vcpu.get_or_insert_default();
    vcpu.max = Some(max);
    vcpu.current = (count < max).then_some(count);
    tidy(domain);
    Ok(())
}

/// Turns single vCPUs on or off; they are removable from then on.
///
/// # Errors
/// Code 8 for one that there cannot be, and for the first, which every machine needs.
pub fn set_each(domain: &mut Domain, ids: &[u32], enabled: bool) -> Result<()> {
    let max = maximum(domain);
    if let Some(id) = ids.iter().find(|id| **id >= max) {
        let text = format!("vcpu {id} is not present in persistent config");
        return Err(Error::new(Code::InvalidArg, From::Qemu, text));
    }
    if ids.contains(&0) {
        return Err(Error::new(Code::InvalidArg, From::Qemu, "vCPU '0' can't be modified"));
    }
    list(domain);
    for state in domain.vcpus.vcpus.iter_mut().filter(|s| ids.contains(&s.id)) {
        *state = VcpuState { id: state.id, enabled, hotpluggable: Some(true), order: None };
    }
    recount(domain);
    Ok(())
}

/// Notes which vCPUs of a running guest are on now, and in which order they came. Where nobody ever named single ones,
/// their number says it all.
pub fn follow(live: &mut Domain, on: &[u32], named: bool) {
    if live.vcpus.vcpus.is_empty() {
        let plain = on.iter().all(|id| (*id as usize) < on.len());
        if plain && !named {
            let max = maximum(live);
            let vcpu = live.vcpu.get_or_insert_default();
            let count = u32::try_from(on.len()).unwrap_or(max);
            (vcpu.max, vcpu.current) = (Some(max), (count < max).then_some(count));
            return;
        }
        list(live);
        // What the machine began with is part of it.
        for (state, order) in live.vcpus.vcpus.iter_mut().zip(1..) {
            state.hotpluggable = Some(!state.enabled);
            state.order = state.enabled.then_some(order);
        }
    }
    let states = &mut live.vcpus.vcpus;
    for state in states.iter_mut().filter(|s| s.enabled && !on.contains(&s.id)) {
        (state.enabled, state.order) = (false, None);
    }
    // Those that stay move up.
    let mut left: Vec<&mut VcpuState> = states.iter_mut().filter(|s| s.enabled).collect();
    left.sort_by_key(|s| (s.order.unwrap_or(u32::MAX), s.id));
    let mut next = 1;
    for state in left {
        state.order = Some(next);
        next += 1;
    }
    for state in states.iter_mut().filter(|s| !s.enabled && on.contains(&s.id)) {
        (state.enabled, state.hotpluggable, state.order) = (true, Some(true), Some(next));
        next += 1;
    }
    recount(live);
}

/// Makes the list of single vCPUs where only their number stands.
fn list(domain: &mut Domain) {
    if domain.vcpus.vcpus.is_empty() {
        let now = current(domain);
        domain.vcpus.vcpus =
            (0..maximum(domain)).map(|id| if id < now { on(id, false) } else { off(id) }).collect();
    }
}

/// Makes the number what the list says.
fn recount(domain: &mut Domain) {
    let max = maximum(domain);
    let count = domain.vcpus.vcpus.iter().filter(|s| s.enabled).count();
    let count = u32::try_from(count).unwrap_or(max);
    let vcpu = domain.vcpu.get_or_insert_default();
    (vcpu.max, vcpu.current) = (Some(max), (count < max).then_some(count));
}

fn on(id: u32, hotpluggable: bool) -> VcpuState {
    VcpuState { id, enabled: true, hotpluggable: Some(hotpluggable), order: None }
}

fn off(id: u32) -> VcpuState {
    VcpuState { id, enabled: false, hotpluggable: None, order: None }
}

/// Turns vCPUs on from the first, or off from the last; fixed ones go off last.
fn switch(states: &mut [VcpuState], count: usize, hotpluggable: bool) {
    let mut now = states.iter().filter(|s| s.enabled).count();
    for state in states.iter_mut().filter(|s| !s.enabled) {
        if now >= count {
            break;
        }
        *state = on(state.id, hotpluggable);
        now += 1;
    }
    for removable in [Some(true), None] {
        let fits = |s: &&mut VcpuState| s.enabled && (removable.is_none() || s.hotpluggable == removable);
        for state in states.iter_mut().rev().filter(fits) {
            if now <= count {
                break;
            }
            *state = VcpuState { hotpluggable: state.hotpluggable.filter(|h| *h), ..off(state.id) };
            now -= 1;
        }
    }
}

/// States that say no more than the counts do are not kept.
fn tidy(domain: &mut Domain) {
    let count = current(domain);
    let states = &domain.vcpus.vcpus;
    let plain =
        |s: &VcpuState| s.enabled == (s.id < count) && s.order.is_none() && s.hotpluggable != Some(true);
    if !states.is_empty() && states.iter().all(plain) && count == maximum(domain) {
        domain.vcpus.vcpus.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(max: u32) -> Domain {
        let mut domain = Domain::default();
        domain.vcpu.get_or_insert_default().max = Some(max);
        domain
    }

    #[test]
    fn counts_follow_each_other() {
        let mut d = domain(2);
        assert_eq!((maximum(&d), current(&d)), (2, 2));
        set_current(&mut d, 1, false).unwrap();
        assert_eq!((current(&d), enabled(&d)), (1, vec![0]));
        let text = set_current(&mut d, 3, false).unwrap_err().message();
        let want = "invalid argument: requested vcpus is greater than max allowable vcpus for the persistent domain: 3 > 2";
        assert_eq!(text, want);
        set_maximum(&mut d, 4).unwrap();
        assert_eq!((maximum(&d), current(&d)), (4, 1));
        set_maximum(&mut d, 1).unwrap();
        assert_eq!(d.vcpu.as_ref().unwrap().current, None);
    }

    #[test]
    fn removable_ones_go_first() {
        let mut d = domain(4);
        set_current(&mut d, 2, false).unwrap();
        set_current(&mut d, 3, true).unwrap();
        assert_eq!(d.vcpus.vcpus[2].hotpluggable, Some(true));
        set_current(&mut d, 2, false).unwrap();
        assert_eq!(enabled(&d), [0, 1]);
        assert_eq!(d.vcpus.vcpus.len(), 4);
    }

    #[test]
    fn single_ones_are_named() {
        let mut d = domain(4);
        set_current(&mut d, 2, false).unwrap();
        set_each(&mut d, &[2, 3], true).unwrap();
        assert_eq!(
            (current(&d), d.vcpus.vcpus[1].hotpluggable, d.vcpus.vcpus[3].hotpluggable),
            (4, Some(false), Some(true))
        );
        set_each(&mut d, &[1], false).unwrap();
        assert_eq!(enabled(&d), [0, 2, 3]);
        assert_eq!(d.vcpu.as_ref().unwrap().current, Some(3));
        let text = |r: Result<()>| r.unwrap_err().message();
        assert_eq!(text(set_each(&mut d, &[0], true)), "invalid argument: vCPU '0' can't be modified");
        assert!(text(set_each(&mut d, &[9], true)).ends_with("vcpu 9 is not present in persistent config"));
    }

    #[test]
    fn a_running_guests_order_is_kept() {
        let mut d = domain(4);
        set_current(&mut d, 2, false).unwrap();
        follow(&mut d, &[0, 1, 2], false);
        assert_eq!((current(&d), d.vcpus.vcpus.len()), (3, 0));
        set_current(&mut d, 2, false).unwrap();
        follow(&mut d, &[0, 1, 3], true);
        let orders = |d: &Domain| d.vcpus.vcpus.iter().map(|s| (s.order, s.hotpluggable)).collect::<Vec<_>>();
        let (fixed, free) = (Some(false), Some(true));
        assert_eq!(orders(&d), [(Some(1), fixed), (Some(2), fixed), (None, free), (Some(3), free)]);
        follow(&mut d, &[0, 1, 2, 3], false);
        assert_eq!(orders(&d)[2], (Some(4), free));
        follow(&mut d, &[0, 1, 2], false);
        assert_eq!(orders(&d), [(Some(1), fixed), (Some(2), fixed), (Some(3), free), (None, free)]);
    }
}
