//! Random changes to documents, with values and elements that other documents have.

use std::collections::BTreeMap;

use virt_xml::{Element, Mode, Node};

/// A small generator; its seed is printed.
pub struct Random(pub u64);

impl Random {
    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

/// Values seen for each attribute of each element, and children seen in each element.
#[derive(Default)]
pub struct Seen {
    values: BTreeMap<(String, String), Vec<String>>,
    /// Children seen in each element.
    pub children: BTreeMap<String, Vec<Element>>,
}

impl Seen {
    /// Takes in all of an element.
    pub fn learn(&mut self, e: &Element) {
        for (name, value) in &e.attrs {
            self.values.entry((e.name.clone(), name.clone())).or_default().push(value.clone());
        }
        for child in e.elements() {
            self.children.entry(e.name.clone()).or_default().push(child.clone());
            self.learn(child);
        }
    }

    /// A value for an attribute, mostly one that a document has.
    pub fn value(&self, element: &str, attribute: &str, random: &mut Random) -> String {
        const ODD: &[&str] = &["", "0", "1", "2", "16", "on", "no", "bogus", "/x"];
        let known = self.values.get(&(element.to_string(), attribute.to_string()));
        match known.filter(|_| random.below(4) > 0) {
            Some(values) => values[random.below(values.len())].clone(),
            None => ODD[random.below(ODD.len())].to_string(),
        }
    }
}

/// A document as a tree.
pub fn tree(text: &str) -> Option<Element> {
    let doc = virt_xml::Document::parse(text, Mode::LIVE, virt_error::Domain::Xml).ok()?;
    Some(doc.root().to_element())
}

/// How many elements there are.
pub fn count(e: &Element) -> usize {
    1 + e.elements().map(count).sum::<usize>()
}

/// The element with this number, in document order.
pub fn nth<'e>(e: &'e mut Element, n: &mut usize) -> Option<&'e mut Element> {
    if *n == 0 {
        return Some(e);
    }
    *n -= 1;
    e.children.iter_mut().find_map(|c| match c {
        Node::Element(c) => nth(c, n),
        Node::Text(_) => None,
    })
}

/// One change somewhere.
pub fn vary(root: &mut Element, seen: &Seen, random: &mut Random) {
    let mut at = 1 + random.below(count(root).saturating_sub(1));
    let Some(e) = nth(root, &mut at) else { return };
    if matches!(e.name.as_str(), "name" | "uuid" | "memory" | "vcpu" | "iothreads") {
        return;
    }
    match random.below(5) {
        0 if !e.attrs.is_empty() => {
            let i = random.below(e.attrs.len());
            e.attrs.remove(i);
        }
        1 | 2 if !e.attrs.is_empty() => {
            let i = random.below(e.attrs.len());
            e.attrs[i].1 = seen.value(&e.name, &e.attrs[i].0.clone(), random);
        }
        3 if !e.children.is_empty() => {
            let i = random.below(e.children.len());
            e.children.remove(i);
        }
        _ => {
            if let Some(children) = seen.children.get(&e.name) {
                e.children.push(Node::Element(children[random.below(children.len())].clone()));
            }
        }
    }
}

/// Path, parent's name and name of an element.
pub fn place(root: &Element, n: usize) -> Option<(String, String, String)> {
    fn find(e: &Element, n: &mut usize, path: &str, parent: &str) -> Option<(String, String, String)> {
        let path = if path.is_empty() { e.name.clone() } else { format!("{path}/{}", e.name) };
        if *n == 0 {
            return Some((path, parent.to_string(), e.name.clone()));
        }
        *n -= 1;
        e.elements().find_map(|c| find(c, n, &path, &e.name))
    }
    find(root, &mut n.clone(), "", "")
}

/// The element that holds the one with this number.
pub fn parent(root: &mut Element, n: usize) -> Option<&mut Element> {
    let at = (0..n).rev().find(|at| {
        let mut left = *at;
        let found = nth(root, &mut left).map(|e| {
            let mut below = at + 1;
            let mut starts = Vec::new();
            for c in e.elements() {
                starts.push(below);
                below += count(c);
            }
            starts.contains(&n)
        });
        found == Some(true)
    })?;
    nth(root, &mut at.clone())
}
