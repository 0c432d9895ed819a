//! Work on a document grows with its length, not with its square, for every kind of device: hostile documents name
//! thousands. Ten times the devices may take at most some thirty times the processor time of this thread; the square
//! would take a hundred times. Wall time is not looked at.
#![allow(clippy::unwrap_used)] // A test's helpers may fail loudly.

use virtqemud::document;
use virtqemud::emulator::Emulators;

/// Few and many devices.
const FEW: usize = 600;
const MANY: usize = 10 * FEW;
/// The most that MANY may cost, FEW being 1.
const MOST: f64 = 30.0;

/// Nanoseconds this thread has run so far.
fn worked() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn guest(devices: &str) -> String {
    format!(
        "<domain type='qemu'><name>big</name><maxMemory slots='255' unit='GiB'>64</maxMemory><memory>65536</memory><vcpu>4</vcpu><os>\
         <type arch='x86_64' machine='q35'>hvm</type></os><devices>{devices}</devices></domain>"
    )
}

fn many(count: usize, one: impl Fn(usize) -> String) -> String {
    guest(&(0..count).map(one).collect::<String>())
}

/// The least of a few tries: what else the machine does only adds.
fn cost(text: &str, emulators: &Emulators) -> u64 {
    let once = || {
        let before = worked();
        let _ = document::read(text, emulators).map(|(d, _)| d.format(virt_model::Mode::CONFIG));
        worked() - before
    };
    (0..3).map(|_| once()).min().unwrap()
}

#[test]
fn ten_times_the_devices_are_no_hundred_times_the_work() {
    type Kind = (&'static str, fn(usize) -> String);
    let kinds: [Kind; 14] = [
        ("scsi disks", |i| {
            let name = document::target::name("sd", i as u32);
            format!("<disk type='file'><source file='/d{i}'/><target dev='{name}' bus='scsi'/></disk>")
        }),
        ("virtio disks", |i| {
            let name = document::target::name("vd", i as u32);
            format!("<disk type='file'><source file='/d{i}'/><target dev='{name}' bus='virtio'/></disk>")
        }),
        ("usb disks", |i| {
            let name = document::target::name("sd", i as u32);
            format!("<disk type='file'><source file='/d{i}'/><target dev='{name}' bus='usb'/></disk>")
        }),
        ("network cards", |_| "<interface type='user'><model type='virtio'/></interface>".into()),
        ("host devices", |i| {
            let (vendor, product) = (i / 60_000 + 1, i % 60_000 + 1);
            format!(
                "<hostdev mode='subsystem' type='usb'><source><vendor id='0x{vendor:04x}'/><product id='0x{product:04x}'/></source></hostdev>"
            )
        }),
        ("controllers", |i| format!("<controller type='scsi' index='{i}' model='virtio-scsi'/>")),
        ("controllers without a number", |_| "<controller type='virtio-serial'/>".into()),
        ("serial ports", |_| "<serial type='null'><target type='usb-serial'/></serial>".into()),
        ("channels", |i| format!("<channel type='null'><target type='virtio' name='c{i}'/></channel>")),
        ("inputs", |_| "<input type='tablet' bus='usb'/>".into()),
        ("redirected devices", |_| {
            "<redirdev bus='usb' type='tcp'><source mode='connect' host='h' service='1'/></redirdev>".into()
        }),
        ("rngs", |_| "<rng model='virtio'><backend model='random'/></rng>".into()),
        ("memory devices", |i| {
            let base = (1_u64 << 40) + ((i as u64) << 28);
            format!(
                "<memory model='virtio-pmem'><source><path>/p{i}</path></source><target><size unit='MiB'>128</size>\
                 <address base='{base:#x}'/></target></memory>"
            )
        }),
        ("shared memory", |i| {
            format!("<shmem name='s{i}'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>")
        }),
    ];
    let emulators = Emulators::new(None);
    let _ = document::read(&guest(""), &emulators).unwrap();
    let mut slow = Vec::new();
    for (what, one) in kinds {
        let (few, all) = (cost(&many(FEW, one), &emulators), cost(&many(MANY, one), &emulators));
        let ratio = all as f64 / few.max(1) as f64;
        let verdict = document::read(&many(MANY, one), &emulators).err().map(|e| e.message());
        println!("{what}: {FEW} {} us, {MANY} {} us, ratio {ratio:.1} {verdict:?}", few / 1000, all / 1000);
        if ratio > MOST {
            slow.push(format!("{what}: {ratio:.0} times"));
        }
    }
    assert!(slow.is_empty(), "ten times the devices cost more than {MOST} times: {slow:?}");
}
