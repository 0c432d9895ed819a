/// Declares a closed set of names: the enum, its spelling, and [`Value`](crate::Value) for it.
///
/// ```
/// virt_xml::names! {
///     /// What a device sits on.
///     pub enum Bus { Ide = "ide", Virtio = "virtio" }
/// }
/// assert_eq!(Bus::Ide.as_str(), "ide");
/// assert_eq!(Bus::from_name("virtio"), Some(Bus::Virtio));
/// ```
///
/// The first name is the default.
#[macro_export]
macro_rules! names {
    ($($(#[$meta:meta])* $vis:vis enum $name:ident { $first:ident = $first_text:literal $(, $variant:ident = $text:literal)* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        $vis enum $name {
            #[doc = concat!("`", $first_text, "`")]
            #[default]
            $first,
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }
        impl $name {
            /// All of them, in the declared order.
            pub const ALL: &'static [(&'static str, Self)] = &[($first_text, Self::$first) $(, ($text, Self::$variant))*];
            /// The name in documents.
            pub fn as_str(self) -> &'static str {
                Self::ALL[self as usize].0
            }
            /// The one with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
            }
        }
        impl $crate::Value for $name {
            fn parse(text: &str) -> ::std::result::Result<Self, $crate::Bad> {
                Self::from_name(text).ok_or($crate::Bad::Unknown)
            }
            fn put(&self, out: &mut String) {
                out.push_str(self.as_str());
            }
            fn expected() -> Option<String> {
                Some(Self::ALL.iter().map(|(n, _)| *n).filter(|n| !n.is_empty()).collect::<Vec<_>>().join(", "))
            }
        }
        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}
