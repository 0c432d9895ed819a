//! What stands in `#[xml(...)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Field, Ident, LitInt, LitStr, Path, Result, Type};

/// What a field is in the element.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Attr,
    Child,
    Leaf,
    Text,
    Flag,
    Flatten,
    Raw,
    /// Not in the document.
    Skip,
}

/// How many values a field holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    One,
    Option,
    Vec,
}

pub struct FieldSpec {
    pub ident: Ident,
    pub kind: Kind,
    pub shape: Shape,
    pub inner: Type,
    /// Attribute or element name.
    pub name: String,
    /// Element that wraps it, when it is not in this element itself.
    pub within: Option<String>,
    pub codec: TokenStream,
    pub say: TokenStream,
    pub live: bool,
    pub secure: bool,
    pub status: bool,
    pub skip_default: bool,
    pub required: bool,
    /// An empty attribute counts as missing.
    pub loose: bool,
    /// libvirt's words when the attribute or element is missing.
    pub need: Option<TokenStream>,
    /// libvirt's words when the element is there twice.
    pub once: Option<TokenStream>,
    /// For an optional flattened part: the attribute that announces it.
    pub when: Option<String>,
    /// Not read for a configuration, but written whenever it is there.
    pub live_read: bool,
    /// In a document's root: twins of this child count as one element.
    pub joined: bool,
    /// Written although it is empty.
    pub even_empty: bool,
    /// `fn(&Field, El) -> Result<()>`: called on what was read, before any other field is.
    pub after: Option<Path>,
    /// The field's turn when reading, where it is not that of writing: lower numbers first, then all without.
    pub turn: Option<u32>,
    /// `fn(&Self) -> bool`: whether the field is written.
    pub write_when: Option<Path>,
    /// `fn(&T, Mode) -> bool`: whether a read value is kept.
    pub read_if: Option<Path>,
    /// `fn(&T, Mode) -> bool`: whether a value is kept, both ways.
    pub keep_if: Option<Path>,
}

/// Code and text of a refusal: `say(ConfigUnsupported, "unknown x '{}'")`.
fn say_tokens(code: &Ident, text: &LitStr, domain: Option<&Ident>) -> TokenStream {
    let domain = domain.map_or_else(|| quote!(Domain), |d| quote!(#d));
    quote!(Some(&::virt_xml::Say { code: ::virt_xml::rt_error::Code::#code, domain: ::virt_xml::rt_error::Domain::#domain, text: #text }))
}

fn parse_say(meta: &syn::meta::ParseNestedMeta<'_>) -> Result<TokenStream> {
    let content;
    syn::parenthesized!(content in meta.input);
    let code: Ident = content.parse()?;
    content.parse::<syn::Token![,]>()?;
    let text: LitStr = content.parse()?;
    let mut domain = None;
    if content.parse::<Option<syn::Token![,]>>()?.is_some() && !content.is_empty() {
        domain = Some(content.parse::<Ident>()?);
    }
    Ok(say_tokens(&code, &text, domain.as_ref()))
}

/// `Option<T>`, `Vec<T>` or `T`.
fn shape_of(ty: &Type) -> (Shape, Type) {
    if let Type::Path(p) = ty
        && let Some(last) = p.path.segments.last()
        && let syn::PathArguments::AngleBracketed(args) = &last.arguments
        && let Some(syn::GenericArgument::Type(inner)) = args.args.first()
    {
        if last.ident == "Option" {
            return (Shape::Option, inner.clone());
        }
        if last.ident == "Vec" {
            return (Shape::Vec, inner.clone());
        }
    }
    (Shape::One, ty.clone())
}

impl FieldSpec {
    pub fn parse(field: &Field) -> Result<Self> {
        let ident =
            field.ident.clone().ok_or_else(|| syn::Error::new_spanned(field, "a named field is needed"))?;
        let (shape, inner) = shape_of(&field.ty);
        let plain = ident.to_string();
        let plain = plain.strip_prefix("r#").unwrap_or(&plain).to_string();
        let mut spec = FieldSpec {
            ident: ident.clone(),
            kind: Kind::Attr,
            shape,
            inner,
            name: plain,
            within: None,
            codec: quote!(::virt_xml::Plain),
            say: quote!(None),
            live: false,
            secure: false,
            status: false,
            skip_default: false,
            required: false,
            loose: false,
            need: None,
            once: None,
            when: None,
            live_read: false,
            joined: false,
            even_empty: false,
            after: None,
            turn: None,
            write_when: None,
            read_if: None,
            keep_if: None,
        };
        let mut kind = None;
        for attr in field.attrs.iter().filter(|a| a.path().is_ident("xml")) {
            attr.parse_nested_meta(|meta| {
                let word = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
                let found = match word.as_str() {
                    "attr" => Some(Kind::Attr),
                    "child" => Some(Kind::Child),
                    "leaf" => Some(Kind::Leaf),
                    "text" => Some(Kind::Text),
                    "flag" => Some(Kind::Flag),
                    "flatten" => Some(Kind::Flatten),
                    "raw" => Some(Kind::Raw),
                    "skip" => Some(Kind::Skip),
                    _ => None,
                };
                if let Some(found) = found {
                    kind = Some(found);
                    if meta.input.peek(syn::Token![=]) {
                        let name: LitStr = meta.value()?.parse()?;
                        let name = name.value();
                        let (within, name) = match name.rsplit_once(['@', '/']) {
                            Some((within, name)) => (Some(within.to_string()), name.to_string()),
                            None => (None, name),
                        };
                        spec.name = name;
                        spec.within = within;
                    }
                    return Ok(());
                }
                match word.as_str() {
                    "with" => {
                        let codec: Type = meta.value()?.parse()?;
                        spec.codec = quote!(#codec);
                    }
                    "live" => spec.live = true,
                    "secure" => spec.secure = true,
                    "status" => spec.status = true,
                    "skip_default" => spec.skip_default = true,
                    "loose" => spec.loose = true,
                    "required" => spec.required = true,
                    "say" => spec.say = parse_say(&meta)?,
                    "need" => spec.need = Some(parse_say(&meta)?),
                    "once" => spec.once = Some(parse_say(&meta)?),
                    "when" => spec.when = Some(meta.value()?.parse::<LitStr>()?.value()),
                    "joined" => spec.joined = true,
                    "even_empty" => spec.even_empty = true,
                    "after" => spec.after = Some(meta.value()?.parse()?),
                    "turn" => spec.turn = Some(meta.value()?.parse::<LitInt>()?.base10_parse()?),
                    "live_read" => spec.live_read = true,
                    "write_when" => spec.write_when = Some(meta.value()?.parse()?),
                    "read_if" => spec.read_if = Some(meta.value()?.parse()?),
                    "keep_if" => spec.keep_if = Some(meta.value()?.parse()?),
                    _ => return Err(meta.error("unknown xml attribute")),
                }
                Ok(())
            })?;
        }
        spec.kind =
            kind.ok_or_else(|| syn::Error::new_spanned(field, "#[xml(...)] must say what the field is"))?;
        Ok(spec)
    }
}

/// Attributes of the type itself.
#[derive(Default)]
pub struct TypeSpec {
    /// Called on the read value: `fn(&mut Self, El) -> Result<()>`.
    pub check: Option<Path>,
    /// Called before any field is read: `fn(El) -> Result<()>`, for refusals whose words name other parts.
    pub before: Option<Path>,
    /// Of children that are there twice the last counts, not the first.
    pub last: bool,
    /// Written with an end tag of its own even when empty, as the reference writes some elements.
    pub open: bool,
    /// The attribute that tells an enum's variants apart.
    pub tag: Option<String>,
    /// The variant when that attribute is missing.
    pub default: Option<String>,
    pub say: Option<TokenStream>,
    /// On an enum, `fn(&Self, Mode) -> Option<Self>`: what is written in its place, if it is not itself.
    pub shown: Option<Path>,
}

impl TypeSpec {
    pub fn parse(attrs: &[Attribute]) -> Result<Self> {
        let mut spec = TypeSpec::default();
        for attr in attrs.iter().filter(|a| a.path().is_ident("xml")) {
            attr.parse_nested_meta(|meta| {
                let word = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
                match word.as_str() {
                    "check" => spec.check = Some(meta.value()?.parse()?),
                    "before" => spec.before = Some(meta.value()?.parse()?),
                    "open" => spec.open = true,
                    "last" => spec.last = true,
                    "shown" => spec.shown = Some(meta.value()?.parse()?),
                    "tag" => spec.tag = Some(meta.value()?.parse::<LitStr>()?.value()),
                    "default" => spec.default = Some(meta.value()?.parse::<LitStr>()?.value()),
                    "say" => spec.say = Some(parse_say(&meta)?),
                    _ => return Err(meta.error("unknown xml attribute")),
                }
                Ok(())
            })?;
        }
        Ok(spec)
    }
}
