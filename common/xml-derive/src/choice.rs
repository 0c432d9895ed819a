//! Enums: the variant is named by an attribute; its content shares the element or stands in one child.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DataEnum, DeriveInput, Fields, LitStr, Result, Variant};

use crate::attrs::TypeSpec;

struct Arm<'a> {
    variant: &'a Variant,
    tag: String,
    child: Option<String>,
}

fn arm(variant: &Variant) -> Result<Arm<'_>> {
    let mut tag = variant.ident.to_string().to_lowercase();
    let mut child = None;
    for attr in variant.attrs.iter().filter(|a| a.path().is_ident("xml")) {
        attr.parse_args_with(|input: syn::parse::ParseStream<'_>| {
            tag = input.parse::<LitStr>()?.value();
            while input.parse::<Option<syn::Token![,]>>()?.is_some() && !input.is_empty() {
                let word: syn::Ident = input.parse()?;
                input.parse::<syn::Token![=]>()?;
                let value: LitStr = input.parse()?;
                if word != "child" {
                    return Err(syn::Error::new_spanned(word, "unknown xml attribute"));
                }
                child = Some(value.value());
            }
            Ok(())
        })?;
    }
    Ok(Arm { variant, tag, child })
}

pub fn derive(input: &DeriveInput, data: &DataEnum) -> Result<TokenStream> {
    let spec = TypeSpec::parse(&input.attrs)?;
    let name = &input.ident;
    let tag_attr =
        spec.tag.ok_or_else(|| syn::Error::new_spanned(name, "#[xml(tag = \"...\")] is needed"))?;
    let default = match &spec.default {
        Some(d) => quote!(Some(#d)),
        None => quote!(None),
    };
    let say = spec.say.unwrap_or_else(|| quote!(None));
    let arms = data.variants.iter().map(arm).collect::<Result<Vec<_>>>()?;
    let mut shapes = vec![];
    let (mut reads, mut tags, mut attrs, mut contents) = (vec![], vec![], vec![], vec![]);
    for Arm { variant, tag, child } in &arms {
        let id = &variant.ident;
        match &variant.fields {
            Fields::Unit => {
                reads.push(quote!(#tag => Self::#id,));
                tags.push(quote!(Self::#id => #tag,));
            }
            Fields::Unnamed(f) if f.unnamed.len() == 1 => {
                tags.push(quote!(Self::#id(_) => #tag,));
                let ty = &f.unnamed[0].ty;
                shapes.push(match child {
                    Some(child) => quote!(s.child::<#ty>("", #child);),
                    None => quote!(<#ty as ::virt_xml::Xml>::shape(s);),
                });
                match child {
                    Some(child) => {
                        reads.push(quote!(#tag => Self::#id(::virt_xml::rt::variant_child(e, #child)?),));
                        contents.push(quote!(Self::#id(v) => w.element_unless_empty(#child, v),));
                    }
                    None => {
                        reads.push(quote!(#tag => Self::#id(::virt_xml::Xml::read(e)?),));
                        attrs.push(quote!(Self::#id(v) => ::virt_xml::Xml::write_attrs(v, w),));
                        contents.push(quote!(Self::#id(v) => ::virt_xml::Xml::write_children(v, w),));
                    }
                }
            }
            other => return Err(syn::Error::new_spanned(other, "a variant holds nothing or one value")),
        }
    }
    let all = arms.iter().map(|a| &a.tag);
    let instead = |write: TokenStream| {
        let shown = spec.shown.as_ref()?;
        Some(
            quote!(if let Some(other) = #shown(self, w.mode()) { return ::virt_xml::Xml::#write(&other, w); }),
        )
    };
    let (attrs_instead, contents_instead) = (instead(quote!(write_attrs)), instead(quote!(write_children)));
    Ok(quote! {
        impl #name {
            /// The names of all variants in documents.
            pub const TAGS: &'static [&'static str] = &[#(#all),*];
            /// The name of this variant in documents.
            pub fn tag(&self) -> &'static str {
                match self { #(#tags)* }
            }
        }
        #[automatically_derived]
        impl ::virt_xml::Xml for #name {
            fn read(e: ::virt_xml::El<'_>) -> ::virt_xml::rt_error::Result<Self> {
                Ok(match ::virt_xml::rt::tag(e, #tag_attr, #default, #say)? {
                    #(#reads)*
                    other => return Err(::virt_xml::rt::bad_tag(e, #tag_attr, other, #say, Self::TAGS)),
                })
            }
            #[allow(unreachable_patterns)]
            fn write_attrs(&self, w: &mut ::virt_xml::Writer) {
                #attrs_instead
                w.attr(#tag_attr, self.tag());
                match self { #(#attrs)* _ => {} }
            }
            fn shape(s: &mut ::virt_xml::Shape) {
                s.attr("", #tag_attr);
                #(#shapes)*
            }
            #[allow(unreachable_patterns)]
            fn write_children(&self, w: &mut ::virt_xml::Writer) {
                #contents_instead
                match self { #(#contents)* _ => {} }
            }
        }
    })
}
