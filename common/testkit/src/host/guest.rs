//! Guests for tests: a real tiny Linux, and a machine without any system that costs nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Host;

/// The tiny Linux guest that `tests/guest/build` makes.
#[derive(Clone, Debug)]
pub struct Image {
    /// Linux.
    pub kernel: PathBuf,
    /// Its first and only root file system.
    pub initrd: PathBuf,
    /// A qcow2 disk of 64 MiB, empty, the test's own.
    pub disk: PathBuf,
}

impl Host {
    /// The tiny Linux guest, in this host's folder for files, where QEMU may read it.
    ///
    /// # Panics
    /// When it cannot be built.
    #[must_use]
    pub fn image(&self) -> Image {
        let built = built();
        let place = |name: &str| {
            let to = self.files().join(name);
            if !to.exists() {
                fs::copy(built.join(name), &to).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
            to
        };
        Image { kernel: place("vmlinuz"), initrd: place("initrd.gz"), disk: place("disk.qcow2") }
    }

    /// Writes a domain document to a file that virsh can read.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn document(&self, name: &str, xml: &str) -> String {
        let path = self.files().join(format!("{name}.xml"));
        fs::write(&path, xml).expect("writing a document");
        path.to_string_lossy().into_owned()
    }
}

/// Names a folder with the built guest, for tests that run where it cannot be built.
pub const GUEST_VARIABLE: &str = "VIRT_TEST_GUEST";

/// The folder of the built guest; built once and cached in target/.
///
/// # Panics
/// When the build fails.
#[must_use]
pub fn built() -> PathBuf {
    if let Some(dir) = std::env::var_os(GUEST_VARIABLE).filter(|d| !d.is_empty()) {
        return dir.into();
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let out = repository.join("target/guest");
    let done = Command::new(repository.join("tests/guest/build")).arg(&out).status();
    assert!(done.expect("tests/guest/build").success(), "the guest cannot be built");
    out
}

/// A machine with 16 MiB and nothing to boot.
#[must_use]
pub fn bare_xml(name: &str) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>\
         <devices><serial type='null'/><memballoon model='none'/></devices></domain>"
    )
}

/// The tiny Linux guest with a disk, a network card, a serial console and the guest agent's channel.
#[must_use]
pub fn linux_xml(name: &str, image: &Image) -> String {
    format!(
        "<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>160</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 quiet</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='user'><model type='virtio'/></interface>
    <serial type='pty'><target port='0'/></serial>
    <console type='pty'><target type='serial' port='0'/></console>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='none'/>
  </devices>
</domain>
",
        kernel = image.kernel.display(),
        initrd = image.initrd.display(),
        disk = image.disk.display()
    )
}
