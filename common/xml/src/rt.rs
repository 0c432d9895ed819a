//! What derived code calls. Small generic functions here keep the generated code, and so compile time, small.

use virt_error::{Error, Result};

use crate::{Bad, Codec, El, Element, Say, Writer, Xml};

#[cold]
fn refused(e: El<'_>, name: &str, value: &str, bad: Bad, say: Option<&Say>, set: Option<String>) -> Error {
    let error = match say {
        None => e.bad_attr(name, value, bad),
        Some(say) => e.say(say, value).with("attribute", name),
    };
    with_set(error, set)
}

#[cold]
fn refused_text(e: El<'_>, value: &str, bad: Bad, say: Option<&Say>, set: Option<String>) -> Error {
    let error = match say {
        None => e.bad_text(value, bad),
        Some(say) => e.say(say, value),
    };
    with_set(error, set)
}

/// Names what may stand there, unless the error says so already.
fn with_set(error: Error, set: Option<String>) -> Error {
    match set {
        Some(set) if error.fact("expected").is_none() => error.with("expected", set),
        _ => error,
    }
}

/// An attribute that may be missing, of an element that may be missing.
pub fn attr<C: Codec<T>, T>(e: Option<El<'_>>, name: &str, say: Option<&Say>) -> Result<Option<T>> {
    let Some(e) = e else { return Ok(None) };
    match e.attr(name) {
        None => Ok(None),
        Some(text) => match C::parse(text) {
            Ok(value) => Ok(Some(value)),
            Err(Bad::Missing) => Ok(None),
            Err(bad) => Err(refused(e, name, text, bad, say, C::expected())),
        },
    }
}

/// An attribute that counts as missing when it is empty.
pub fn attr_loose<C: Codec<T>, T>(e: Option<El<'_>>, name: &str, say: Option<&Say>) -> Result<Option<T>> {
    let filled = e.filter(|e| e.attr(name).is_some_and(|v| !v.is_empty()));
    attr::<C, T>(filled, name, say)
}

/// An attribute that must be there when its element is.
pub fn attr_required<C: Codec<T>, T>(
    e: Option<El<'_>>,
    within: El<'_>,
    name: &str,
    say: Option<&Say>,
) -> Result<T> {
    match attr::<C, T>(e, name, say)? {
        Some(v) => Ok(v),
        None => Err(e.unwrap_or(within).missing_attr(name)),
    }
}

/// An attribute that must be there when its element is.
pub fn attr_when_there<C: Codec<T>, T>(
    e: Option<El<'_>>,
    name: &str,
    say: Option<&Say>,
) -> Result<Option<T>> {
    match e {
        None => Ok(None),
        Some(inner) => attr_required::<C, T>(e, inner, name, say).map(Some),
    }
}

/// Refuses an element without this attribute, in libvirt's own words.
pub fn need_attr(e: Option<El<'_>>, name: &str, say: Option<&Say>) -> Result<()> {
    match (e, say) {
        (Some(e), Some(say)) if e.attr(name).is_none() => Err(e.say(say, "").with("attribute", name)),
        _ => Ok(()),
    }
}

/// Refuses an element without this child, in libvirt's own words.
pub fn need_child(e: Option<El<'_>>, name: &str, say: Option<&Say>) -> Result<()> {
    match (e, say) {
        (Some(e), Some(say)) if e.child(name).is_none() => Err(e.say(say, "").with("missing", name)),
        _ => Ok(()),
    }
}

/// Refuses a second child of this name, in libvirt's own words.
pub fn once(e: Option<El<'_>>, name: &str, say: Option<&Say>) -> Result<()> {
    let second = e.and_then(|e| e.children().filter(|c| c.name() == name).nth(1));
    match (second, say) {
        (Some(second), Some(say)) => Err(second.say(say, "")),
        _ => Ok(()),
    }
}

/// The text of a child element; a blank one counts as missing.
pub fn leaf<C: Codec<T>, T>(e: Option<El<'_>>, name: &str, say: Option<&Say>) -> Result<Option<T>> {
    match e.and_then(|e| e.child(name)) {
        None => Ok(None),
        Some(e) => text::<C, T>(e, say),
    }
}

/// The texts of all child elements of this name.
pub fn leaves<C: Codec<T>, T>(e: Option<El<'_>>, name: &'static str, say: Option<&Say>) -> Result<Vec<T>> {
    let Some(e) = e else { return Ok(Vec::new()) };
    e.children().filter(|c| c.name() == name).filter_map(|c| text::<C, T>(c, say).transpose()).collect()
}

/// The element's own text; empty counts as missing.
pub fn text<C: Codec<T>, T>(e: El<'_>, say: Option<&Say>) -> Result<Option<T>> {
    let text = e.text();
    if text.is_empty() {
        return Ok(None);
    }
    match C::parse(&text) {
        Ok(value) => Ok(Some(value)),
        Err(Bad::Missing) => Ok(None),
        Err(bad) => Err(refused_text(e, &text, bad, say, C::expected())),
    }
}

/// A child element that may be missing.
pub fn child<T: Xml>(e: Option<El<'_>>, name: &str) -> Result<Option<T>> {
    e.and_then(|e| e.child(name)).map(T::read).transpose()
}

/// The last of the child elements of this name.
pub fn last_child<T: Xml>(e: Option<El<'_>>, name: &str) -> Result<Option<T>> {
    e.and_then(|e| e.last_child(name)).map(T::read).transpose()
}

/// All child elements of this name.
pub fn children<T: Xml>(e: Option<El<'_>>, name: &'static str) -> Result<Vec<T>> {
    let Some(e) = e else { return Ok(Vec::new()) };
    e.children().filter(|c| c.name() == name).map(T::read).collect()
}

/// Whether a child element is there.
pub fn flag(e: Option<El<'_>>, name: &str) -> bool {
    e.is_some_and(|e| e.child(name).is_some())
}

/// A child element kept verbatim.
pub fn raw(e: Option<El<'_>>, name: &str) -> Option<Element> {
    e.and_then(|e| e.child(name)).map(|e| e.to_element())
}

/// An element's shared content, when the attribute that announces it is there.
pub fn flatten_when<T: Xml>(e: El<'_>, when: Option<&str>) -> Result<Option<T>> {
    match when {
        Some(attr) if e.attr(attr).is_none() => Ok(None),
        _ => T::read(e).map(Some),
    }
}

/// The name that chooses an enum's variant.
pub fn tag<'d>(e: El<'d>, name: &str, default: Option<&'static str>, say: Option<&Say>) -> Result<&'d str> {
    match (e.attr(name), default) {
        (Some(tag), _) => Ok(tag),
        (None, Some(tag)) => Ok(tag),
        (None, None) => Err(match say {
            Some(say) => e.say(say, "(null)").with("attribute", name),
            None => e.missing_attr(name),
        }),
    }
}

/// No variant has this name.
#[cold]
pub fn bad_tag(e: El<'_>, name: &str, value: &str, say: Option<&Say>, tags: &[&str]) -> Error {
    refused(e, name, value, Bad::Unknown, say, Some(tags.join(", ")))
}

/// The content of an enum's variant that stands in a child element; missing reads like empty.
pub fn variant_child<T: Xml + Default>(e: El<'_>, name: &str) -> Result<T> {
    e.child(name).map_or_else(|| Ok(T::default()), T::read)
}

/// Writes an attribute if there is a value; like the reference none that is empty, unless `even_empty`.
pub fn put_attr<C: Codec<T>, T>(w: &mut Writer, name: &str, value: Option<&T>, even_empty: bool) {
    if let Some(v) = value {
        w.attr_with(name, even_empty, |out| C::put(v, out));
    }
}

/// Writes `<name>value</name>` if there is a value.
pub fn put_leaf<C: Codec<T>, T>(w: &mut Writer, name: &'static str, value: Option<&T>) {
    if let Some(v) = value {
        w.leaf::<C, T>(name, v);
    }
}

/// Writes the element's own text if there is a value.
pub fn put_text<C: Codec<T>, T>(w: &mut Writer, value: Option<&T>) {
    if let Some(v) = value {
        w.text_with(|out| C::put(v, out));
    }
}

/// Writes `<name/>`.
pub fn put_flag(w: &mut Writer, name: &'static str, value: bool) {
    if value {
        w.start(name);
        w.end();
    }
}

/// Writes child elements, each even if empty.
pub fn put_children<'a, T: Xml + 'a>(
    w: &mut Writer,
    name: &'static str,
    values: impl IntoIterator<Item = &'a T>,
) {
    for v in values {
        w.element(name, v);
    }
}
