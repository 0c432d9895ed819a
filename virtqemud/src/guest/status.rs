//! The status file of a running guest, in libvirt's own form: what a restarted daemon needs to know.
//!
//! It is written before the act it describes. A file without a process number is a start that did not get further; the
//! pid file then tells whether a process came to be. libvirt's file has more in it; what we do not need we neither
//! write nor read, and our own additions are in one element of our own namespace.

use std::path::Path;

use virt_error::{Domain as From, Error, Result};
use virt_model::domain::Domain;
use virt_model::domain::cpu::Cpu;
use virt_object::store::write_whole;
use virt_xml::{Mode, Xml};

use super::state::State;

/// The namespace of our own element.
pub const NAMESPACE: &str = "https://virtd.example/status/1";

/// `<domstatus>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Status {
    /// "running", "paused" ...
    #[xml(attr)]
    pub state: String,
    /// "booted", "user" ...
    #[xml(attr)]
    pub reason: Option<String>,
    /// The process; 0 before it was started.
    #[xml(attr)]
    pub pid: i32,
    /// `<taint flag='...'/>`, once each.
    #[xml(child = "taint")]
    pub taints: Vec<Taint>,
    /// The monitor's socket.
    #[xml(child)]
    pub monitor: Monitor,
    /// The threads of the processors.
    #[xml(child)]
    pub vcpus: Vcpus,
    /// Devices that QEMU has.
    #[xml(child)]
    pub devices: Devices,
    /// The guest's private folder.
    #[xml(attr = "libDir@path")]
    pub lib_dir: Option<String>,
    /// Where sockets of channels are.
    #[xml(attr = "channelTargetDir@path")]
    pub channel_dir: Option<String>,
    /// Where memory files are.
    #[xml(attr = "memoryBackingDir@path")]
    pub memory_dir: Option<String>,
    /// What libvirt needs to go on with the guest.
    #[xml(flatten)]
    pub record: Record,
    /// The next ACPI shutdown is a reboot.
    #[xml(flag = "fakereboot")]
    pub fake_reboot: bool,
    /// The CPU that the configuration asked for, where the live document says more.
    #[xml(child = "cpu")]
    pub planned_cpu: Option<Cpu>,
    /// Owners of files are kept in extended attributes.
    #[xml(flag = "rememberOwner")]
    pub remember_owner: bool,
    /// Ours.
    #[xml(child = "virtd:run")]
    pub run: Option<OwnRun>,
    /// The live document.
    #[xml(child)]
    pub domain: Domain,
}

/// What is not ours to use, but libvirt's: kept for a guest that it has started, made for one of ours.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Record {
    /// What the emulator can. libvirt ends a guest that has none.
    #[xml(child = "qemuCaps")]
    pub capabilities: Option<Capabilities>,
    /// Namespaces of its own that the process lives in.
    #[xml(raw)]
    pub namespaces: Option<virt_xml::Element>,
    /// Its ports write through virtlogd.
    #[xml(flag = "chardevStdioLogd")]
    pub stdio_logd: bool,
    /// The highest number of an image so far.
    #[xml(attr = "nodename@index")]
    pub nodename: Option<u32>,
    /// The next number of a set of descriptors.
    #[xml(attr = "fdset@index")]
    pub fdset: Option<u32>,
    /// Jobs on its disks.
    #[xml(raw)]
    pub blockjobs: Option<virt_xml::Element>,
    /// How long the guest agent is waited for: virDomainAgentResponseTimeoutValues, or seconds.
    #[xml(leaf = "agentTimeout")]
    pub agent_timeout: Option<i32>,
}

/// `<qemuCaps>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Capabilities {
    /// Their names.
    #[xml(child = "flag")]
    pub flags: Vec<Flag>,
}

/// One name.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Flag {
    /// "qemu-xhci" ...
    #[xml(attr)]
    pub name: String,
}

impl Record {
    /// The record of a guest that we start.
    pub fn of(live: &Domain, capabilities: Vec<String>) -> Self {
        let highest = crate::document::nodes::next_index(live) - 1;
        let flags: Vec<Flag> = capabilities.into_iter().map(|name| Flag { name }).collect();
        Self {
            capabilities: (!flags.is_empty()).then_some(Capabilities { flags }),
            nodename: (highest > 0).then_some(highest),
            fdset: Some(0),
            agent_timeout: Some(-2),
            ..Self::default()
        }
    }
}

/// `<taint>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Taint {
    /// "custom-ga-command" ...
    #[xml(attr)]
    pub flag: String,
}

/// `<monitor>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Monitor {
    /// Its socket.
    #[xml(attr)]
    pub path: Option<String>,
    /// "unix".
    #[xml(attr = "type")]
    pub kind: Option<String>,
}

/// `<vcpus>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Vcpus {
    /// One a processor.
    #[xml(child = "vcpu")]
    pub vcpus: Vec<Vcpu>,
}

/// One processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Xml)]
pub struct Vcpu {
    /// Its number.
    #[xml(attr)]
    pub id: u32,
    /// Its thread.
    #[xml(attr)]
    pub pid: i32,
}

/// `<devices>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Devices {
    /// One a device.
    #[xml(child = "device")]
    pub devices: Vec<Device>,
}

/// One device.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Device {
    /// Its alias.
    #[xml(attr)]
    pub alias: String,
}

/// What libvirt has no place for.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct OwnRun {
    /// Declares the prefix.
    #[xml(attr = "xmlns:virtd")]
    pub namespace: Option<String>,
    /// When the process started, in clock ticks after boot: tells it from a later one with its number.
    #[xml(attr = "startTicks")]
    pub start_ticks: u64,
    /// Where QEMU's words begin in the guest's log.
    #[xml(attr = "logFrom")]
    pub log_from: u64,
}

impl Status {
    /// Reads a file's text.
    ///
    /// Errors: the text is no status file, or its document is damaged.
    pub fn parse(text: &str) -> Result<Self> {
        virt_xml::parse(text, "domstatus", Mode::STATUS, From::Domain)
    }

    /// The state with its reason.
    ///
    /// Errors: an unknown state.
    pub fn state(&self) -> Result<State> {
        State::from_names(&self.state, self.reason.as_deref().unwrap_or("unknown"))
            .ok_or_else(|| Error::internal(From::Domain, format!("invalid domain state '{}'", self.state)))
    }

    /// The file's text.
    pub fn format(&self) -> String {
        let name = self.domain.name.as_deref().unwrap_or_default();
        // "--" may not stand in a comment.
        let name = name.replace("--", "- -");
        format!(
            "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE\nOVERWRITTEN AND LOST. Changes to \
             this xml configuration should be made using:\n  virsh edit {name}\nor other application using the libvirt API.\n-->\n\n{}",
            virt_xml::format(self, "domstatus", Mode::STATUS)
        )
    }

    /// Replaces the file as a whole. The folder is in memory, so nothing is flushed: only our own end matters.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_whole(path, &[self.format().as_bytes()], false)
            .map_err(|e| Error::system(From::Qemu, format!("cannot write '{}'", path.display()), e))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::state::Running;
    use super::*;

    /// The form the reference wrote, cut down.
    const REFERENCE: &str = "<!--
WARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE
-->

<domstatus state='running' reason='booted' pid='25463'>
  <taint flag='custom-ga-command'/>
  <monitor path='/var/lib/libvirt/qemu/domain-1-vm1/monitor.sock' type='unix'/>
  <namespaces>
    <mount/>
  </namespaces>
  <vcpus>
    <vcpu id='0' pid='25478'/>
  </vcpus>
  <qemuCaps>
    <flag name='kvm'/>
  </qemuCaps>
  <devices>
    <device alias='usb'/>
    <device alias='balloon0'/>
  </devices>
  <libDir path='/var/lib/libvirt/qemu/domain-1-vm1'/>
  <channelTargetDir path='/run/libvirt/qemu/channel/1-vm1'/>
  <chardevStdioLogd/>
  <rememberOwner/>
  <nodename index='2'/>
  <blockjobs active='no'/>
  <agentTimeout>-2</agentTimeout>
  <domain type='qemu' id='1'>
    <name>vm1</name>
    <uuid>e3bfaa63-1762-42de-a434-128fcfc58ee3</uuid>
    <memory unit='KiB'>262144</memory>
    <vcpu placement='static'>1</vcpu>
    <os>
      <type arch='x86_64' machine='pc-i440fx-10.0'>hvm</type>
    </os>
  </domain>
</domstatus>
";

    #[test]
    fn the_references_file_is_read() {
        let status = Status::parse(REFERENCE).expect("read");
        assert_eq!(status.state().expect("known"), State::Running(Running::Booted));
        assert_eq!(
            (status.pid, status.domain.id, status.domain.name.as_deref()),
            (25463, Some(1), Some("vm1"))
        );
        assert_eq!(status.vcpus.vcpus, [Vcpu { id: 0, pid: 25478 }]);
        assert_eq!(status.lib_dir.as_deref(), Some("/var/lib/libvirt/qemu/domain-1-vm1"));
        assert!(status.remember_owner && !status.fake_reboot && status.run.is_none());
        let record = &status.record;
        assert_eq!((record.nodename, record.agent_timeout, record.stdio_logd), (Some(2), Some(-2), true));
        assert_eq!(record.capabilities.as_ref().map(|c| c.flags[0].name.as_str()), Some("kvm"));
        let text = status.format();
        for kept in ["<mount/>", "<flag name='kvm'/>", "<blockjobs ", "<chardevStdioLogd/>"] {
            assert!(text.contains(kept), "{kept} is libvirt's and stays");
        }
    }

    #[test]
    fn our_file_comes_back() {
        let mut status = Status::parse(REFERENCE).expect("read");
        status.fake_reboot = true;
        status.run = Some(OwnRun { namespace: Some(NAMESPACE.into()), start_ticks: 77, log_from: 5 });
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("vm1.xml");
        status.save(&path).expect("saved");
        let text = fs::read_to_string(&path).expect("a file");
        assert_eq!(Status::parse(&text).expect("read again"), status, "{text}");
        assert!(text.contains("<virtd:run xmlns:virtd="), "{text}");
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1, "no temporary file is left");
    }

    #[test]
    fn damaged_files_are_errors() {
        for bad in [
            "",
            "<domstatus/>",
            "<domain/>",
            "<domstatus state='x' pid='y'><domain/></domstatus>",
            &REFERENCE[..900],
        ] {
            assert!(Status::parse(bad).and_then(|s| s.state()).is_err(), "{bad}");
        }
    }
}
