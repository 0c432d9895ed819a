//! Structs: a field for each attribute and child.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DataStruct, DeriveInput, Result};

use crate::attrs::{FieldSpec, Kind, Shape, TypeSpec};

pub fn derive(input: &DeriveInput, data: &DataStruct) -> Result<TokenStream> {
    let spec = TypeSpec::parse(&input.attrs)?;
    let fields = data.fields.iter().map(FieldSpec::parse).collect::<Result<Vec<_>>>()?;
    let name = &input.ident;
    // A struct's fields are read in the order in which they are named here: of two mistakes the first is told.
    let mut in_turn: Vec<_> = fields.iter().collect();
    in_turn.sort_by_key(|f| f.turn.unwrap_or(u32::MAX));
    let reads = in_turn.into_iter().map(|f| read(f, spec.last));
    let own: Vec<_> = fields.iter().filter(|f| f.within.is_none()).collect();
    let attrs = own.iter().filter_map(|f| match f.kind {
        Kind::Attr => Some(put_attr(f)),
        Kind::Flatten => {
            let id = &f.ident;
            let put = match f.shape {
                Shape::Option => quote!(if let Some(v) = &self.#id { ::virt_xml::Xml::write_attrs(v, w); }),
                _ => quote!(::virt_xml::Xml::write_attrs(&self.#id, w);),
            };
            Some(gated(f, put))
        }
        _ => None,
    });
    let joined = fields.iter().filter(|f| f.joined).map(|f| &f.name);
    let shapes = fields.iter().map(shape);
    let contents = contents(&fields);
    let check = spec.check.as_ref().map(|path| quote!(#path(&mut this, e)?;));
    let before = spec.before.as_ref().map(|path| quote!(#path(e)?;));
    let open = spec.open.then(|| quote!(w.body();));
    let mutable = spec.check.as_ref().map(|_| quote!(mut));
    Ok(quote! {
        #[automatically_derived]
        impl ::virt_xml::Xml for #name {
            #[allow(unused_variables)]
            fn read(e: ::virt_xml::El<'_>) -> ::virt_xml::rt_error::Result<Self> {
                #before
                let #mutable this = Self { #(#reads)* };
                #check
                Ok(this)
            }
            #[allow(unused_variables)]
            fn write_attrs(&self, w: &mut ::virt_xml::Writer) { #(#attrs)* }
            #[allow(unused_variables)]
            fn write_children(&self, w: &mut ::virt_xml::Writer) { #open #contents }
            fn joined() -> &'static [&'static str] { &[#(#joined),*] }
            fn shape(s: &mut ::virt_xml::Shape) { #(#shapes)* }
        }
    })
}

fn shape(f: &FieldSpec) -> TokenStream {
    let (name, ty, within) = (&f.name, &f.inner, f.within.as_deref().unwrap_or_default());
    match f.kind {
        Kind::Attr => quote!(s.attr(#within, #name);),
        Kind::Leaf | Kind::Flag | Kind::Raw => quote!(s.leaf(#within, #name);),
        Kind::Text | Kind::Skip => quote!(),
        Kind::Flatten => quote!(<#ty as ::virt_xml::Xml>::shape(s);),
        Kind::Child => quote!(s.child::<#ty>(#within, #name);),
    }
}

fn read(f: &FieldSpec, last: bool) -> TokenStream {
    let child = if last { quote!(last_child) } else { quote!(child) };
    let (id, name, codec, say, ty) = (&f.ident, &f.name, &f.codec, &f.say, &f.inner);
    let from = match &f.within {
        Some(within) => {
            let mut steps = within.split('/');
            let first = steps.next().unwrap_or_default();
            let rest = steps.map(|s| quote!(.and_then(|e| e.child(#s))));
            quote!(e.#child(#first)#(#rest)*)
        }
        None => quote!(Some(e)),
    };
    let value = match (f.kind, f.shape) {
        (Kind::Attr, Shape::One) if f.required => {
            quote!(::virt_xml::rt::attr_required::<#codec, #ty>(#from, e, #name, #say)?)
        }
        (Kind::Attr, Shape::One) if f.loose => {
            quote!(::virt_xml::rt::attr_loose::<#codec, #ty>(#from, #name, #say)?.unwrap_or_default())
        }
        (Kind::Attr, Shape::One) => {
            quote!(::virt_xml::rt::attr::<#codec, #ty>(#from, #name, #say)?.unwrap_or_default())
        }
        (Kind::Attr, _) if f.required => {
            quote!(::virt_xml::rt::attr_when_there::<#codec, #ty>(#from, #name, #say)?)
        }
        (Kind::Attr, _) if f.loose => quote!(::virt_xml::rt::attr_loose::<#codec, #ty>(#from, #name, #say)?),
        (Kind::Attr, _) => quote!(::virt_xml::rt::attr::<#codec, #ty>(#from, #name, #say)?),
        (Kind::Leaf, Shape::One) => {
            quote!(::virt_xml::rt::leaf::<#codec, #ty>(#from, #name, #say)?.unwrap_or_default())
        }
        (Kind::Leaf, Shape::Option) => quote!(::virt_xml::rt::leaf::<#codec, #ty>(#from, #name, #say)?),
        (Kind::Leaf, Shape::Vec) => quote!(::virt_xml::rt::leaves::<#codec, #ty>(#from, #name, #say)?),
        (Kind::Text, Shape::Option) => quote!(::virt_xml::rt::text::<#codec, #ty>(e, #say)?),
        (Kind::Text, _) => quote!(::virt_xml::rt::text::<#codec, #ty>(e, #say)?.unwrap_or_default()),
        (Kind::Flag, _) => quote!(::virt_xml::rt::flag(#from, #name)),
        (Kind::Skip, _) => quote!(::std::default::Default::default()),
        (Kind::Raw, _) => quote!(::virt_xml::rt::raw(#from, #name)),
        (Kind::Flatten, Shape::Option) => {
            let when = match &f.when {
                Some(attr) => quote!(Some(#attr)),
                None => quote!(None),
            };
            quote!(::virt_xml::rt::flatten_when::<#ty>(e, #when)?)
        }
        (Kind::Flatten, _) => quote!(<#ty as ::virt_xml::Xml>::read(e)?),
        (Kind::Child, Shape::One) => quote!(::virt_xml::rt::#child::<#ty>(#from, #name)?.unwrap_or_default()),
        (Kind::Child, Shape::Option) => quote!(::virt_xml::rt::#child::<#ty>(#from, #name)?),
        (Kind::Child, Shape::Vec) => quote!(::virt_xml::rt::children::<#ty>(#from, #name)?),
    };
    let value = match f.keep_if.as_ref().or(f.read_if.as_ref()) {
        // The items of a list are only kept back when writing.
        Some(_) if f.shape == Shape::Vec => value,
        Some(keep) => quote!(#value.filter(|v| #keep(v, e.mode()))),
        None => value,
    };
    let need = f.need.as_ref().map(|say| {
        let kind = if f.kind == Kind::Attr { quote!(need_attr) } else { quote!(need_child) };
        quote!(::virt_xml::rt::#kind(#from, #name, #say)?;)
    });
    // An attribute of a child element is there twice when that child is.
    let once = f.once.as_ref().map(|say| match (f.kind, &f.within) {
        (Kind::Attr, Some(within)) => quote!(::virt_xml::rt::once(Some(e), #within, #say)?;),
        _ => quote!(::virt_xml::rt::once(#from, #name, #say)?;),
    });
    let value = match (&need, &once) {
        (None, None) => value,
        _ => quote!({ #need #once #value }),
    };
    let value = match &f.after {
        Some(check) => quote!({ let value = #value; #check(&value, e)?; value }),
        None => value,
    };
    if f.live || f.live_read {
        quote!(#id: if e.mode().inactive { ::std::default::Default::default() } else { #value },)
    } else if f.status {
        quote!(#id: if e.mode().status { #value } else { ::std::default::Default::default() },)
    } else {
        quote!(#id: #value,)
    }
}

/// The field as an `Option<&T>` for the runtime's put functions.
fn value_of(f: &FieldSpec) -> TokenStream {
    let id = &f.ident;
    if let Some(keep) = &f.keep_if {
        return quote!(self.#id.as_ref().filter(|v| #keep(v, w.mode())));
    }
    match f.shape {
        Shape::Option => quote!(self.#id.as_ref()),
        _ if f.skip_default => quote!(Some(&self.#id).filter(|v| **v != ::std::default::Default::default())),
        _ => quote!(Some(&self.#id)),
    }
}

fn gated(f: &FieldSpec, put: TokenStream) -> TokenStream {
    let put = if f.live { quote!(if !w.mode().inactive { #put }) } else { put };
    let put = if f.status { quote!(if w.mode().status { #put }) } else { put };
    let put = match &f.write_when {
        Some(when) => quote!(if #when(self) { #put }),
        None => put,
    };
    if f.secure { quote!(if w.mode().secure { #put }) } else { put }
}

fn put_attr(f: &FieldSpec) -> TokenStream {
    let (name, codec, ty, value) = (&f.name, &f.codec, &f.inner, value_of(f));
    let even_empty = f.even_empty;
    gated(f, quote!(::virt_xml::rt::put_attr::<#codec, #ty>(w, #name, #value, #even_empty);))
}

fn put_content(f: &FieldSpec) -> TokenStream {
    let (id, name, codec, ty) = (&f.ident, &f.name, &f.codec, &f.inner);
    let put = match (f.kind, f.shape) {
        (Kind::Attr, _) => return put_attr(f),
        (Kind::Leaf, Shape::Vec) => {
            quote!(for v in &self.#id { ::virt_xml::rt::put_leaf::<#codec, #ty>(w, #name, Some(v)); })
        }
        (Kind::Leaf, _) => {
            let value = value_of(f);
            quote!(::virt_xml::rt::put_leaf::<#codec, #ty>(w, #name, #value);)
        }
        (Kind::Text, _) => {
            let value = value_of(f);
            quote!(::virt_xml::rt::put_text::<#codec, #ty>(w, #value);)
        }
        (Kind::Flag, _) => quote!(::virt_xml::rt::put_flag(w, #name, self.#id);),
        (Kind::Raw, _) => quote!(if let Some(v) = &self.#id { w.foreign(v); }),
        (Kind::Flatten, Shape::Option) => {
            quote!(if let Some(v) = &self.#id { ::virt_xml::Xml::write_children(v, w); })
        }
        (Kind::Flatten, _) => quote!(::virt_xml::Xml::write_children(&self.#id, w);),
        (Kind::Child, Shape::One) => quote!(w.element_unless_empty(#name, &self.#id);),
        (Kind::Skip, _) => quote!(),
        (Kind::Child, Shape::Vec) if f.keep_if.is_some() => {
            let keep = &f.keep_if;
            quote!(
                let mode = w.mode();
                ::virt_xml::rt::put_children(w, #name, self.#id.iter().filter(|v| #keep(v, mode)));
            )
        }
        (Kind::Child, Shape::Option) if f.keep_if.is_some() => {
            let value = value_of(f);
            quote!(::virt_xml::rt::put_children(w, #name, #value);)
        }
        (Kind::Child, _) => quote!(::virt_xml::rt::put_children(w, #name, &self.#id);),
    };
    gated(f, put)
}

/// Content in field order; neighbours in one wrapper share it.
fn contents(fields: &[FieldSpec]) -> TokenStream {
    let mut out = TokenStream::new();
    let mut rest = fields.iter().filter(|f| f.kind != Kind::Attr || f.within.is_some()).peekable();
    while let Some(first) = rest.next() {
        let Some(within) = &first.within else {
            out.extend(put_content(first));
            continue;
        };
        let mut group = vec![first];
        while let Some(next) = rest.next_if(|f| f.within.as_ref() == Some(within)) {
            group.push(next);
        }
        let attrs = group.iter().filter(|f| f.kind == Kind::Attr).map(|f| put_content(f));
        let others = group.iter().filter(|f| f.kind != Kind::Attr).map(|f| put_content(f));
        let mut inner = quote!(#(#attrs)* #(#others)*);
        for step in within.split('/').rev() {
            inner = quote!({ let mark = w.start(#step); #inner w.end_unless_empty(mark); });
        }
        out.extend(inner);
    }
    out
}
