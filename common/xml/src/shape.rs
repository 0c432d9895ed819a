use std::any::type_name;
use std::collections::BTreeSet;

use crate::Xml;

/// The attributes and elements a type reads and writes, as paths: `disk/target` and `disk/target@dev`.
#[derive(Default)]
pub struct Shape {
    /// All paths met.
    pub paths: BTreeSet<String>,
    at: Vec<&'static str>,
    open: Vec<&'static str>,
}

impl Shape {
    /// The shape of an element of type `T` with this name.
    pub fn of<T: Xml>(name: &'static str) -> Self {
        let mut shape = Self::default();
        shape.child::<T>("", name);
        shape
    }

    fn path(&self, within: &str, name: &str, before: char) -> String {
        let mut path = self.at.join("/");
        if !within.is_empty() {
            path.push('/');
            path.push_str(within);
        }
        if !path.is_empty() {
            path.push(before);
        }
        path.push_str(name);
        path
    }

    /// An attribute, of this element or of one inside.
    pub fn attr(&mut self, within: &str, name: &str) {
        self.wrappers(within);
        let path = self.path(within, name, '@');
        self.paths.insert(path);
    }

    /// The elements between this one and an attribute or element inside.
    fn wrappers(&mut self, within: &str) {
        let mut upto = 0;
        for step in within.split('/').filter(|s| !s.is_empty()) {
            upto += step.len();
            let path = self.path("", &within[..upto], '/');
            self.paths.insert(path);
            upto += 1;
        }
    }

    /// A child element without structure.
    pub fn leaf(&mut self, within: &str, name: &str) {
        self.wrappers(within);
        let path = self.path(within, name, '/');
        self.paths.insert(path);
    }

    /// A child element; a type met inside itself is not followed again.
    pub fn child<T: Xml>(&mut self, within: &'static str, name: &'static str) {
        self.leaf(within, name);
        let this = type_name::<T>();
        if self.open.contains(&this) {
            return;
        }
        self.open.push(this);
        if !within.is_empty() {
            self.at.push(within);
        }
        self.at.push(name);
        T::shape(self);
        self.at.pop();
        if !within.is_empty() {
            self.at.pop();
        }
        self.open.pop();
    }
}
