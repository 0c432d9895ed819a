//! `<storagepoolCapabilities>`: which kinds of pools a host can have, and their formats.

use virt_xml::{Mode, Writer};

use super::PoolType;
use super::kind::Formats;

fn formats(w: &mut Writer, part: &'static str, list: &'static str, formats: Formats, told: &[&str]) {
    w.start(part);
    w.start("defaultFormat");
    w.attr("type", formats.default);
    w.end();
    w.start("enum");
    w.attr("name", list);
    w.body();
    for name in told {
        w.leaf::<virt_xml::Plain, String>("value", &(*name).to_string());
    }
    w.end();
    w.end();
}

/// The document; `supported` says of each kind whether this host can have it.
pub fn format(supported: impl Fn(PoolType) -> bool) -> String {
    let mut w = Writer::new(Mode::LIVE);
    w.start("storagepoolCapabilities");
    for (name, kind) in PoolType::ALL {
        w.start("pool");
        w.attr("type", name);
        w.attr("supported", if supported(*kind) { "yes" } else { "no" });
        w.body();
        if let Some(f) = kind.source_formats() {
            formats(&mut w, "poolOptions", "sourceFormatType", f, f.names);
        }
        if let Some(f) = kind.volume_formats() {
            // The reference names no format of Ceph's volumes here.
            let told = if *kind == PoolType::Rbd { &[] } else { f.names };
            formats(&mut w, "volOptions", "targetFormatType", f, told);
        }
        w.end();
    }
    w.end();
    w.finish()
}
