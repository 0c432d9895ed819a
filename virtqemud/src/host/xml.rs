//! Small helpers to write answers that are no documents of their own model.

use virt_xml::Writer;

/// `<name a='b'/>`.
pub fn empty(w: &mut Writer, name: &'static str, attrs: &[(&str, &str)]) {
    open(w, name, attrs);
    w.end();
}

/// `<name a='b'>`, to be closed with [`Writer::end`].
pub fn open(w: &mut Writer, name: &'static str, attrs: &[(&str, &str)]) {
    w.start(name);
    for (key, value) in attrs {
        w.attr(key, value);
    }
}

/// `<name a='b'>text</name>`.
pub fn text(w: &mut Writer, name: &'static str, attrs: &[(&str, &str)], text: &str) {
    open(w, name, attrs);
    w.text(text);
    w.end();
}

/// `<enum name='x'>` with its values.
pub fn choices(w: &mut Writer, name: &str, values: &[&str]) {
    open(w, "enum", &[("name", name)]);
    for value in values {
        text(w, "value", &[], value);
    }
    w.end();
}

/// "yes" or "no".
pub fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
