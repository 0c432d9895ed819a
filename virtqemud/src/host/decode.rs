//! Finding the named model that describes a set of features best.

use super::features::Features;
use super::models::Model;

/// A CPU told as a model and the differences from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Model name.
    pub model: String,
    /// Features beyond the model's.
    pub extra: Features,
    /// Features of the model that are not there.
    pub missing: Features,
}

/// What must be described.
pub struct Wanted<'a> {
    /// The features that are there.
    pub features: &'a Features,
    /// libvirt's vendor name ("Intel"), if known. A model of another vendor is never taken.
    pub vendor: Option<&'a str>,
    /// Family and model number; among equally short descriptions the model of that signature wins.
    pub signature: (u32, u32),
    /// Whether the description may say that a feature of the model is missing.
    pub may_miss: bool,
}

/// The shortest description; on a tie the earlier model. `None` when no model fits.
pub fn describe(models: &[Model], wanted: &Wanted<'_>) -> Option<Described> {
    let mut best: Option<(usize, bool, &Model)> = None;
    for model in models {
        let foreign = matches!((model.vendor.as_deref(), wanted.vendor), (Some(m), Some(w)) if m != w);
        let missing = model.features.difference(wanted.features).count();
        if foreign || (missing > 0 && !wanted.may_miss) {
            continue;
        }
        let cost = missing + wanted.features.difference(&model.features).count();
        let same = (model.family, model.number) == wanted.signature;
        let better = match best {
            None => true,
            Some((least, was_same, _)) => cost < least || (cost == least && same && !was_same),
        };
        if better {
            best = Some((cost, same, model));
        }
    }
    let (_, _, model) = best?;
    Some(Described {
        model: model.name.clone(),
        extra: wanted.features.difference(&model.features).copied().collect(),
        missing: model.features.difference(wanted.features).copied().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, vendor: Option<&str>, number: u32, features: &[&'static str]) -> Model {
        Model {
            name: name.into(),
            alias_of: None,
            deprecated: false,
            blockers: None,
            vendor: vendor.map(str::to_string),
            family: 6,
            number,
            features: features.iter().copied().collect(),
        }
    }

    #[test]
    fn the_shortest_description_wins() {
        let models = [
            model("small", None, 1, &["fpu"]),
            model("big", Some("Intel"), 2, &["fpu", "sse", "avx"]),
            model("amd", Some("AMD"), 2, &["fpu", "sse", "avx", "aes"]),
        ];
        let features: Features = ["fpu", "sse", "avx", "aes"].into_iter().collect();
        let wanted =
            Wanted { features: &features, vendor: Some("Intel"), signature: (6, 9), may_miss: false };
        let found = describe(&models, &wanted).unwrap();
        assert_eq!((found.model.as_str(), found.extra.len(), found.missing.len()), ("big", 1, 0));
    }

    #[test]
    fn missing_features_only_where_they_may_be_told() {
        let models = [model("a", None, 1, &["fpu"]), model("b", None, 2, &["fpu", "sse", "avx"])];
        let features: Features = ["fpu", "avx", "aes"].into_iter().collect();
        let mut wanted = Wanted { features: &features, vendor: None, signature: (6, 2), may_miss: false };
        assert_eq!(describe(&models, &wanted).unwrap().model, "a");
        wanted.may_miss = true;
        assert_eq!(describe(&models, &wanted).unwrap().model, "b");
        assert!(describe(&[], &wanted).is_none());
    }
}
