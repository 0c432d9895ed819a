//! C names to Rust names.

/// `connect_open_args` and `RegisterArgs` to `ConnectOpenArgs`, `RegisterArgs`.
pub fn camel(name: &str) -> String {
    name.split('_')
        .filter(|w| !w.is_empty())
        .map(|word| {
            let shout = word.chars().all(|c| !c.is_lowercase());
            let mut chars = word.chars();
            let first = chars.next().map(|c| c.to_ascii_uppercase()).into_iter();
            first.chain(chars.map(|c| if shout { c.to_ascii_lowercase() } else { c })).collect::<String>()
        })
        .collect()
}

/// `libVer`, `callbackID` to `lib_ver`, `callback_id`; Rust's words are escaped.
pub fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, c) in chars.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| chars[i]);
        let starts = before.is_some_and(|p| p.is_lowercase() || p.is_ascii_digit())
            || (before.is_some_and(char::is_uppercase) && chars.get(i + 1).is_some_and(|n| n.is_lowercase()));
        if c.is_uppercase() && starts {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    if ["type", "in", "ref", "match", "move", "use", "mod", "fn", "loop", "dyn", "gen"]
        .contains(&out.as_str())
    {
        return format!("r#{out}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(camel("connect_open_args"), "ConnectOpenArgs");
        assert_eq!(camel("CONNECT_OPEN"), "ConnectOpen");
        assert_eq!(camel("DomainOpenLogFileArgs"), "DomainOpenLogFileArgs");
        assert_eq!(snake("callbackID"), "callback_id");
        assert_eq!(snake("nrVirtCpu"), "nr_virt_cpu");
        assert_eq!(snake("type"), "r#type");
        assert_eq!(snake("need_results"), "need_results");
    }
}
