//! The list of controllers: where a new one goes, and making sure that one is there.

use super::types::{Controller, ControllerKind};

/// Adds a controller behind those of its kind with a lower index, else at the end.
pub fn insert(list: &mut Vec<Controller>, controller: Controller) {
    let index = controller.index.unwrap_or(0);
    let mut at = None;
    for (i, c) in list.iter().enumerate().rev() {
        if c.kind != controller.kind {
            continue;
        }
        let companion = controller.info.master_startport.is_some();
        match c.index.unwrap_or(0).cmp(&index) {
            std::cmp::Ordering::Greater => at = Some(i),
            std::cmp::Ordering::Equal if c.info.master_startport.is_some() && !companion => at = Some(i),
            _ => {
                if at.is_none() {
                    at = Some(i + 1);
                }
                break;
            }
        }
    }
    let at = at.unwrap_or(list.len());
    list.insert(at, controller);
}

/// Adds a controller of this kind and index unless there is one. Returns whether it was added.
pub fn ensure(list: &mut Vec<Controller>, kind: ControllerKind, index: u32, model: Option<&str>) -> bool {
    let there = list.iter().any(|c| c.kind == kind && c.index == Some(index));
    if !there {
        insert(list, Controller::new(kind, index, model));
    }
    !there
}

/// Gives a number to every controller without one, then sorts as the reference keeps them.
pub fn number(list: &mut Vec<Controller>) {
    let given = std::mem::take(list);
    let mut used: std::collections::HashSet<(ControllerKind, u32)> =
        given.iter().filter_map(|c| Some((c.kind, c.index?))).collect();
    for mut c in given {
        if c.index.is_none() {
            let mut n = 0;
            while used.contains(&(c.kind, n)) {
                n += 1;
            }
            used.insert((c.kind, n));
            c.index = Some(n);
        }
        insert(list, c);
    }
}
