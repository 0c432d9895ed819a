//! The writer: libvirt's format, straight into one string.

use crate::{Codec, Element, Mode, Xml};

/// Writes elements as libvirt prints them: two blanks a level, attributes in single quotes, `<x/>` when empty.
pub struct Writer {
    out: String,
    open: Vec<&'static str>,
    mode: Mode,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Inside a start tag: attributes may follow.
    Tag,
    /// After text: the end tag follows on the same line.
    Text,
    /// Between elements.
    Lines,
}

/// Where an element began, to take it back when nothing came of it.
pub struct Mark {
    at: usize,
    named: usize,
    state: State,
}

impl Writer {
    /// An empty writer.
    pub fn new(mode: Mode) -> Self {
        Self { out: String::with_capacity(4096), open: Vec::with_capacity(8), mode, state: State::Lines }
    }

    /// What the document is written for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Changes what is written from here on.
    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// Indents everything by this many further levels (for a document inside another).
    pub fn finish(self) -> String {
        self.out
    }

    fn indent(&mut self) {
        const BLANKS: &str = "                                                                ";
        let n = self.open.len() * 2;
        match BLANKS.get(..n) {
            Some(blanks) => self.out.push_str(blanks),
            None => (0..n).for_each(|_| self.out.push(' ')),
        }
    }

    fn close_tag(&mut self) {
        if self.state == State::Tag {
            self.out.push_str(">\n");
        }
        self.state = State::Lines;
    }

    /// Ends the start tag just opened, so that the element gets an end tag even if nothing follows.
    pub fn open_lines(&mut self) {
        self.close_tag();
    }

    /// Opens an element.
    pub fn start(&mut self, name: &'static str) -> Mark {
        let mark = Mark { at: self.out.len(), named: 0, state: self.state };
        self.close_tag();
        self.indent();
        self.out.push('<');
        self.out.push_str(name);
        self.open.push(name);
        self.state = State::Tag;
        Mark { named: self.out.len(), ..mark }
    }

    /// Closes the start tag: the element gets an end tag on a line of its own even if nothing follows.
    pub fn body(&mut self) {
        self.close_tag();
    }

    /// Closes the innermost element.
    pub fn end(&mut self) {
        let Some(name) = self.open.pop() else { return };
        match self.state {
            State::Tag => self.out.push_str("/>\n"),
            State::Text | State::Lines => {
                if self.state == State::Lines {
                    self.indent();
                }
                self.out.push_str("</");
                self.out.push_str(name);
                self.out.push_str(">\n");
            }
        }
        self.state = State::Lines;
    }

    /// Closes the element opened with `mark`, or takes it back if it got neither attribute nor content.
    pub fn end_unless_empty(&mut self, mark: Mark) {
        if self.state == State::Tag && self.out.len() == mark.named {
            self.out.truncate(mark.at);
            self.open.pop();
            self.state = mark.state;
        } else {
            self.end();
        }
    }

    /// An attribute of the element just opened. Ignored when content was already written.
    pub fn attr(&mut self, name: &str, value: &str) {
        self.attr_with(name, true, |out| escape(value, out));
    }

    /// An attribute whose value `put` appends, already safe (numbers, names of a closed set).
    pub fn attr_with(&mut self, name: &str, even_empty: bool, put: impl FnOnce(&mut String)) {
        debug_assert!(self.state == State::Tag, "attribute {name} after content");
        if self.state != State::Tag {
            return;
        }
        let before = self.out.len();
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("='");
        let empty = self.out.len();
        put(&mut self.out);
        match self.out.len() == empty && !even_empty {
            true => self.out.truncate(before),
            false => self.out.push('\''),
        }
    }

    /// Text of the element just opened.
    pub fn text_with(&mut self, put: impl FnOnce(&mut String)) {
        if self.state == State::Tag {
            self.out.push('>');
        }
        self.state = State::Text;
        put(&mut self.out);
    }

    /// Text of the element just opened.
    pub fn text(&mut self, text: &str) {
        self.text_with(|out| escape(text, out));
    }

    /// `<name>value</name>`.
    pub fn leaf<C: Codec<T>, T>(&mut self, name: &'static str, value: &T) {
        self.start(name);
        self.text_with(|out| C::put(value, out));
        self.end();
    }

    /// An element with the attributes and content of `value`.
    pub fn element<T: Xml>(&mut self, name: &'static str, value: &T) {
        self.start(name);
        value.write_attrs(self);
        value.write_children(self);
        self.end();
    }

    /// The same, left out when it would be empty.
    pub fn element_unless_empty<T: Xml>(&mut self, name: &'static str, value: &T) {
        let mark = self.start(name);
        value.write_attrs(self);
        value.write_children(self);
        self.end_unless_empty(mark);
    }

    /// A foreign element, as libxml2 prints it.
    pub fn foreign(&mut self, element: &Element) {
        self.close_tag();
        self.indent();
        element.dump(&mut self.out, self.open.len(), true);
        self.out.push('\n');
    }
}

/// libvirt's escaping, the same for text and attributes: the five XML names; control characters are dropped.
pub(crate) fn escape(text: &str, out: &mut String) {
    let special =
        |b: u8| matches!(b, b'<' | b'>' | b'&' | b'\'' | b'"') || (b < 0x20 && b != b'\n' && b != b'\t');
    if !text.bytes().any(special) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if (c as u32) < 0x20 => {}
            c => out.push(c),
        }
    }
}
