//! `#[derive(Xml)]`: one declaration of a field for reading and writing. The attributes are described in
//! `docs/xml-derive.md`; the generated code only calls `virt_xml::rt`.

mod attrs;
mod choice;
mod record;

use proc_macro::TokenStream;
use syn::{Data, DeriveInput, parse_macro_input};

/// Derives `virt_xml::Xml` for a struct (an element's attributes and content) or an enum (one of several shapes, told
/// apart by an attribute).
#[proc_macro_derive(Xml, attributes(xml))]
pub fn derive_xml(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let done = match &input.data {
        Data::Struct(data) => record::derive(&input, data),
        Data::Enum(data) => choice::derive(&input, data),
        Data::Union(data) => {
            Err(syn::Error::new_spanned(data.union_token, "Xml cannot be derived for a union"))
        }
    };
    done.unwrap_or_else(|e| e.to_compile_error()).into()
}
