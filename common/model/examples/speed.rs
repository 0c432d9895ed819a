//! How long reading and writing a domain document takes: a typical guest, and one with very many devices.
//!
//! `cargo run --release -p virt-model --example speed`

use std::fmt::Write;
use std::time::Instant;

use virt_model::Mode;
use virt_model::domain::Domain;

/// A guest with `disks` disks and as many network cards.
fn document(disks: usize) -> String {
    let mut x = String::from(
        "<domain type='qemu'>\n  <name>speed</name>\n  <uuid>c7a5fdbd-cdaf-4455-926a-d65c16db1809</uuid>\n  <title>a guest</title>\n  \
         <memory unit='KiB'>262144</memory>\n  <currentMemory unit='KiB'>262144</currentMemory>\n  <vcpu placement='static'>2</vcpu>\n  \
         <os>\n    <type arch='x86_64' machine='pc-q35-10.0'>hvm</type>\n    <boot dev='hd'/>\n  </os>\n  \
         <features>\n    <acpi/>\n    <apic/>\n  </features>\n  <cpu mode='custom' match='exact' check='none'>\n    \
         <model fallback='forbid'>qemu64</model>\n  </cpu>\n  <clock offset='utc'/>\n  <on_poweroff>destroy</on_poweroff>\n  \
         <on_reboot>restart</on_reboot>\n  <on_crash>destroy</on_crash>\n  <devices>\n    <emulator>/usr/bin/qemu-system-x86_64</emulator>\n",
    );
    for i in 0..disks {
        let address = format!(
            "<address type='pci' domain='0x0000' bus='0x{:02x}' slot='0x{:02x}' function='0x0'/>",
            i / 31 % 256,
            i % 31
        );
        let _ = write!(
            x,
            "    <disk type='file' device='disk'>\n      <driver name='qemu' type='qcow2' cache='none'/>\n      <source file='/var/lib/libvirt/images/{i}.qcow2'/>\n      \
             <target dev='vd{}' bus='virtio'/>\n      {address}\n    </disk>\n    \
             <interface type='network'>\n      <mac address='52:54:00:{:02x}:{:02x}:01'/>\n      <source network='default'/>\n      <model type='virtio'/>\n      {address}\n    </interface>\n",
            (b'a' + (i % 26) as u8) as char,
            i / 256 % 256,
            i % 256,
        );
    }
    for i in 0..8 {
        let _ = write!(
            x,
            "    <controller type='pci' index='{}' model='pcie-root-port'>\n      <model name='pcie-root-port'/>\n      <target chassis='{}' port='0x{:x}'/>\n      \
             <address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x{i}'/>\n    </controller>\n",
            i + 1,
            i + 1,
            16 + i
        );
    }
    x.push_str(
        "    <serial type='pty'>\n      <target type='isa-serial' port='0'>\n        <model name='isa-serial'/>\n      </target>\n    </serial>\n    \
         <console type='pty'>\n      <target type='serial' port='0'/>\n    </console>\n    \
         <channel type='unix'>\n      <target type='virtio' name='org.qemu.guest_agent.0'/>\n      <address type='virtio-serial' controller='0' bus='0' port='1'/>\n    </channel>\n    \
         <input type='tablet' bus='usb'>\n      <address type='usb' bus='0' port='1'/>\n    </input>\n    \
         <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'>\n      <listen type='address' address='127.0.0.1'/>\n    </graphics>\n    \
         <video>\n      <model type='virtio' heads='1' primary='yes'/>\n    </video>\n    <memballoon model='virtio'/>\n    \
         <rng model='virtio'>\n      <backend model='random'>/dev/urandom</backend>\n    </rng>\n  </devices>\n</domain>\n",
    );
    x
}

/// Microseconds for one reading and one writing.
fn time(text: &str, rounds: u32) -> (f64, f64) {
    let (mut read, mut write) = (f64::MAX, f64::MAX);
    for _ in 0..rounds {
        let t = Instant::now();
        let Ok(domain) = Domain::parse(text, Mode::CONFIG) else { return (f64::NAN, f64::NAN) };
        read = read.min(t.elapsed().as_secs_f64() * 1e6);
        let t = Instant::now();
        let out = domain.format(Mode::CONFIG);
        write = write.min(t.elapsed().as_secs_f64() * 1e6);
        std::hint::black_box(out);
    }
    (read, write)
}

fn main() {
    for (what, disks, rounds) in [
        ("typical guest", 2, 2000),
        ("1,000 devices", 500, 50),
        ("10,000 devices", 5000, 10),
        ("40,000 devices", 20000, 3),
    ] {
        let text = document(disks);
        let (read, write) = time(&text, rounds);
        let total = read + write;
        println!(
            "{what:>15}: {:>8} bytes, read {read:>9.1} us, write {write:>9.1} us, both {total:>9.1} us, {:.1} ns a byte",
            text.len(),
            total * 1000.0 / text.len() as f64
        );
    }
}
