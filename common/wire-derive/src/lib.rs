//! `#[derive(Xdr)]`: XDR encoding and decoding for a struct or a union, in the order of its fields.
//!
//! - `#[xdr(max = N)]` on a field gives the most elements, bytes or characters it may have. Strings without it have the
//!   wire's own limit; arrays and opaque data must name theirs.
//! - A struct with one unnamed field is that field on the wire.
//! - An enum is a union: every variant holds one value and names its discriminant with `#[xdr(case = N)]`.
//!
//! The expansion is kept lean (one call per field), for the tables of libvirt's programs make some 750 types.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Data, DeriveInput, Expr, Fields, Index, Member, parse_macro_input, spanned::Spanned};

/// See the crate's documentation.
#[proc_macro_derive(Xdr, attributes(xdr))]
pub fn derive_xdr(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> syn::Result<Tokens> {
    let name = &input.ident;
    let parts = match &input.data {
        Data::Struct(data) => of_struct(&data.fields)?,
        Data::Enum(data) => of_union(data, name)?,
        Data::Union(_) => return Err(syn::Error::new(name.span(), "an XDR union is written as an enum")),
    };
    let Parts { min, encode, decode, sample } = parts;
    Ok(quote! {
        impl crate::xdr::XdrEncode for #name {
            fn encode(&self, out: &mut Vec<u8>) -> Result<(), crate::xdr::XdrError> { #encode }
        }
        impl crate::xdr::XdrDecode for #name {
            const MIN: usize = #min;
            fn decode(r: &mut crate::xdr::Reader<'_>) -> Result<Self, crate::xdr::XdrError> { #decode }
        }
        #[cfg(feature = "arbitrary")]
        impl crate::xdr::sample::Sample for #name {
            fn sample(s: &mut crate::xdr::sample::Sampler) -> Self { #sample }
        }
    })
}

/// The four bodies of an expansion.
struct Parts {
    min: Tokens,
    encode: Tokens,
    decode: Tokens,
    sample: Tokens,
}

fn of_struct(fields: &Fields) -> syn::Result<Parts> {
    let (mut min, mut encode, mut decode, mut sample) = (quote!(0), quote!(), quote!(), quote!());
    for (i, field) in fields.iter().enumerate() {
        let member = field.ident.clone().map_or(Member::Unnamed(Index::from(i)), Member::Named);
        let ty = &field.ty;
        match attribute(&field.attrs, "max")? {
            Some(max) => {
                min.extend(quote!(+ <#ty as crate::xdr::XdrBounded>::MIN));
                encode
                    .extend(quote!(crate::xdr::XdrBounded::encode_max(&self.#member, #max as usize, out)?;));
                decode.extend(quote!(#member: crate::xdr::XdrBounded::decode_max(r, #max as usize)?,));
                sample.extend(
                    quote!(#member: crate::xdr::sample::SampleBounded::sample_max(s, #max as usize),),
                );
            }
            None => {
                min.extend(quote!(+ <#ty as crate::xdr::XdrDecode>::MIN));
                encode.extend(quote!(crate::xdr::XdrEncode::encode(&self.#member, out)?;));
                decode.extend(quote!(#member: crate::xdr::XdrDecode::decode(r)?,));
                sample.extend(quote!(#member: crate::xdr::sample::Sample::sample(s),));
            }
        }
    }
    Ok(Parts {
        min,
        encode: quote!(#encode Ok(())),
        decode: quote!(Ok(Self { #decode })),
        sample: quote!(Self { #sample }),
    })
}

fn of_union(data: &syn::DataEnum, name: &syn::Ident) -> syn::Result<Parts> {
    let (mut encode, mut decode, mut sample) = (quote!(), quote!(), quote!());
    let count = data.variants.len() as u64;
    for (i, variant) in data.variants.iter().enumerate() {
        let ident = &variant.ident;
        let Fields::Unnamed(fields) = &variant.fields else {
            return Err(syn::Error::new(variant.span(), "a union's case holds one unnamed value"));
        };
        if fields.unnamed.len() != 1 {
            return Err(syn::Error::new(variant.span(), "a union's case holds one value"));
        }
        let case = attribute(&variant.attrs, "case")?
            .ok_or_else(|| syn::Error::new(variant.span(), "a union's case needs #[xdr(case = N)]"))?;
        encode.extend(quote! {
            Self::#ident(v) => {
                crate::xdr::XdrEncode::encode(&(#case as i32), out)?;
                crate::xdr::XdrEncode::encode(v, out)
            }
        });
        decode.extend(quote!(#case => Self::#ident(crate::xdr::XdrDecode::decode(r)?),));
        let i = i as u64;
        let pattern = if i + 1 == count { quote!(_) } else { quote!(#i) };
        sample.extend(quote!(#pattern => Self::#ident(crate::xdr::sample::Sample::sample(s)),));
    }
    let text = name.to_string();
    Ok(Parts {
        // The smallest case of a union is not less than one word in any of the tables.
        min: quote!(4),
        encode: quote!(match self { #encode }),
        decode: quote! {
            Ok(match <i32 as crate::xdr::XdrDecode>::decode(r)? {
                #decode
                other => return Err(crate::xdr::XdrError::Union { name: #text, case: other }),
            })
        },
        sample: quote!(match s.below(#count) { #sample }),
    })
}

/// The value of `key` in `#[xdr(key = value)]`.
fn attribute(attrs: &[syn::Attribute], key: &str) -> syn::Result<Option<Expr>> {
    let mut found = None;
    for attr in attrs.iter().filter(|a| a.path().is_ident("xdr")) {
        attr.parse_nested_meta(|meta| {
            let value: Expr = meta.value()?.parse()?;
            if meta.path.is_ident(key) {
                found = Some(value);
            } else if !meta.path.is_ident("max") && !meta.path.is_ident("case") {
                return Err(meta.error("known here: max, case"));
            }
            Ok(())
        })?;
    }
    Ok(found)
}
