//! Pools that are an iSCSI target which guests reach themselves: nothing of it appears on this host.

use virt_error::{Domain, Error, Result};
use virt_host::tool::{Output, Run};
use virt_model::secret::UsageType;
use virt_model::storage::{Pool, VolumeType};

use super::{Backend, Content, Cx, block, iscsi};
use crate::keys;
use crate::pool::Sizes;
use crate::volume::Volume;

/// `<pool type='iscsi-direct'>`.
pub struct IscsiDirect;

fn run(cx: &Cx<'_>, pool: &Pool, program: &'static str, args: &[&str]) -> Result<Output> {
    let initiator = pool.source.initiator.as_ref().and_then(|i| i.iqn.clone()).unwrap_or_default();
    let mut run =
        Run::new(program, Domain::Storage).args(["-i", initiator.as_str()]).args(args.iter().copied());
    if let Some(auth) = &pool.source.auth {
        let password = keys::password(cx.keys, auth, UsageType::Iscsi)?;
        run = run.hidden("LIBISCSI_CHAP_USERNAME", auth.username.as_bytes());
        run = run.hidden("LIBISCSI_CHAP_PASSWORD", password.bytes());
    }
    cx.tools.run(&run.cancel(&cx.cancel))
}

/// The units of our target: "Target:IQN Portal:..." and below "Lun:1    Type:DIRECT_ACCESS (Size:31M)".
fn units(text: &str, target: &str) -> Vec<u32> {
    let mut ours = false;
    let mut units = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.trim().strip_prefix("Target:") {
            ours = rest.split_whitespace().next() == Some(target);
        } else if let Some(rest) = line.trim().strip_prefix("Lun:").filter(|_| ours)
            && rest.contains("DIRECT_ACCESS")
        {
            units.extend(rest.split_whitespace().next().and_then(|n| n.parse::<u32>().ok()));
        }
    }
    units
}

fn content(cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
    let (portal, target) = (iscsi::portal(pool.source.hosts.first())?, iscsi::target(pool)?);
    let said = run(cx, pool, "iscsi-ls", &["--show-luns", &format!("iscsi://{portal}/")])?;
    let mut volumes = Vec::new();
    for unit in units(&said.text(), target) {
        let url = format!("iscsi://{portal}/{target}/{unit}");
        let size =
            block::number(&run(cx, pool, "iscsi-readcapacity16", &["-s", &url])?.text(), "size of a unit")?;
        let path = format!("ip-{portal}-iscsi-{target}-lun-{unit}");
        let mut volume = block::told(&format!("unit:0:0:{unit}"), &path, &path, None, (size, size));
        volume.document.kind = Some(VolumeType::Network);
        volume.document.physical = None;
        volumes.push(volume);
    }
    Ok(Content { sizes: block::sum(&volumes), volumes, ..Content::default() })
}

impl Backend for IscsiDirect {
    fn needs(&self) -> &'static [&'static str] {
        &["iscsi-ls", "iscsi-readcapacity16"]
    }

    fn is_active(&self, _: &Cx<'_>, _: &Pool) -> Result<bool> {
        Ok(true)
    }

    fn refresh(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Content> {
        content(cx, pool)
    }

    fn sizes(&self, cx: &Cx<'_>, pool: &Pool) -> Result<Sizes> {
        Ok(content(cx, pool)?.sizes)
    }

    fn look(&self, cx: &Cx<'_>, pool: &Pool, volume: &Volume) -> Result<Volume> {
        let found = content(cx, pool)?.volumes.into_iter().find(|v| v.name() == volume.name());
        found.ok_or_else(|| Error::internal(Domain::Storage, format!("unit '{}' is gone", volume.name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::NoKeys;
    use virt_host::tool::{Cancel, RecordedTools};

    #[test]
    fn units_of_the_target_are_found() {
        let xml = "<pool type='iscsi-direct'><name>p</name><source><host name='h'/><device path='iqn.a:b'/>\
                   <initiator><iqn name='iqn.me'/></initiator></source></pool>";
        let said = "Target:iqn.a:c Portal:h:3260,1\nLun:1    Type:DIRECT_ACCESS (Size:1G)\n\
                    Target:iqn.a:b Portal:h:3260,1\nLun:0    Type:STORAGE_ARRAY_CONTROLLER_DEVICE\n\
                    Lun:2    Type:DIRECT_ACCESS (Size:31M)\n";
        let out = |text: &str| Output { out: text.as_bytes().to_vec(), ..Output::default() };
        let tools = RecordedTools::new([
            ("iscsi-ls -i iqn.me --show-luns iscsi://h:3260/".to_string(), out(said)),
            ("iscsi-readcapacity16 -i iqn.me -s iscsi://h:3260/iqn.a:b/2".to_string(), out("33554432\n")),
        ]);
        let pool = Pool::parse(xml).unwrap();
        let found = IscsiDirect.refresh(&Cx::new(&tools, &NoKeys, Cancel::default()), &pool).unwrap();
        let volume = &found.volumes[0];
        assert_eq!((volume.name(), volume.capacity()), ("unit:0:0:2", 33_554_432));
        assert_eq!(volume.path(), "ip-h:3260-iscsi-iqn.a:b-lun-2");
    }
}
