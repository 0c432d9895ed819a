//! Rules of the reference's that no recorded case shows, each by one short document: what is written back, refused, or
//! told to QEMU.
#![allow(clippy::unwrap_used, clippy::panic)] // A test's helpers may fail loudly.

use virt_model::Mode;
use virtqemud::emulator::Emulators;
use virtqemud::{command, document};

/// A guest on the PC of today with these devices and these further elements.
fn guest(top: &str, devices: &str) -> String {
    let features = if top.contains("<features") { "" } else { "<features><acpi/></features>" };
    format!(
        "<domain type='qemu'><name>rule</name><memory unit='MiB'>1024</memory><vcpu>2</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os>{features}{top}<devices>{devices}</devices></domain>"
    )
}

fn read(top: &str, devices: &str, emulators: &Emulators) -> Result<String, String> {
    let (def, _) = document::read(&guest(top, devices), emulators).map_err(|e| e.message())?;
    Ok(def.format(Mode::CONFIG))
}

fn emulators() -> Option<Emulators> {
    let emulators = Emulators::new(None);
    if emulators.binary_for("x86_64").is_none() {
        eprintln!("skipped: no qemu-system-x86_64");
        return None;
    }
    Some(emulators)
}

/// Element by element: top, devices, what the document then has in it, without blanks between elements.
const WRITTEN: &[(&str, &str, &str)] = &[
    // Parts that are there twice are one.
    (
        "<memtune><hard_limit>9000000</hard_limit></memtune><memtune><soft_limit>5000000</soft_limit></memtune>",
        "",
        "<hard_limit unit='KiB'>9000000</hard_limit><soft_limit unit='KiB'>5000000</soft_limit>",
    ),
    ("<os><bootmenu enable='yes'/></os>", "", "<bootmenu enable='yes'/>"),
    (
        "<memoryBacking><locked/></memoryBacking><memoryBacking><nosharepages/></memoryBacking>",
        "",
        "<nosharepages/><locked/>",
    ),
    // A switch may tell cards apart by what their network leads to.
    (
        "",
        "<interface type='network'><source network='n'/><virtualport type='802.1Qbh'/></interface>",
        "<virtualport type='802.1Qbh'/>",
    ),
    (
        "",
        "<interface type='bridge'><source bridge='b'/><virtualport type='802.1Qbg'><parameters managerid='0x10' \
         typeid='2' typeidversion='3' instanceid='09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f'/></virtualport></interface>",
        "<parameters managerid='16' typeid='2' typeidversion='3'",
    ),
    // What is off says nothing more.
    (
        "<features><hyperv><spinlocks state='off' retries='5000'/></hyperv></features>",
        "",
        "<spinlocks state='off'/>",
    ),
    (
        "<features><kvm><dirty-ring state='off' size='4096'/></kvm></features>",
        "",
        "<dirty-ring state='off'/>",
    ),
    // Distances hold both ways; nodes nobody mentions stay unmentioned.
    (
        "<cpu><numa><cell id='0' cpus='0' memory='524288'><distances><sibling id='1' value='30'/></distances></cell>\
         <cell id='1' cpus='1' memory='262144'/><cell id='2' memory='262144'/></numa></cpu>",
        "",
        "<cell id='2' memory='262144' unit='KiB'/>",
    ),
    // Doorbells ring by interrupts.
    (
        "",
        "<shmem name='s'><model type='ivshmem-doorbell'/><server path='/x'/><msi enabled='off'/></shmem>",
        "<msi ioeventfd='on'/>",
    ),
    // Controllers take the lowest index that is free.
    (
        "",
        "<controller type='pci' index='1' model='pcie-root-port'/><controller type='pci' model='pcie-root'/>",
        "<controller type='pci' index='0' model='pcie-root'/>",
    ),
    // A remapping IOMMU takes the I/O APIC with it.
    ("", "<iommu model='intel'><driver intremap='on'/></iommu>", "<ioapic driver='qemu'/>"),
    // What only virtio cards have is passed over.
    (
        "",
        "<interface type='user'><mac address='52:54:01:00:00:01'/><model type='e1000'/><driver queues='4'/></interface>",
        "<mac address='52:54:01:00:00:01'/><model type='e1000'/><address",
    ),
    (
        "",
        "<graphics type='vnc' passwdValidTo='2030-01-01T00:00:00'/>",
        "<graphics type='vnc' port='-1' autoport='yes'>",
    ),
    // Logs stand after the host side, whatever the device; one without a file is none.
    (
        "",
        "<smartcard mode='passthrough' type='tcp'><log file='/l' append='on'/>\
         <source mode='bind' host='h' service='1'/><protocol type='raw'/></smartcard>",
        "<protocol type='raw'/><log file='/l' append='on'/><address type='ccid'",
    ),
    (
        "",
        "<rng model='virtio'><backend model='egd' type='tcp'><log file='/l'/>\
         <source mode='connect' host='h' service='1'/><protocol type='raw'/></backend></rng>",
        "<protocol type='raw'/><log file='/l'/></backend>",
    ),
    ("", "<serial type='null'><log append='on'/></serial>", "<serial type='null'><target type='isa-serial'"),
    // An empty word is none, and so is a 0 where something is counted.
    (
        "",
        "<interface type='user'><mac address='52:54:00:00:00:01'/><model type=''/><mtu size=''/></interface>",
        "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='rtl8139'/>",
    ),
    (
        "",
        "<disk type='file'><driver queues='0'/><source file='/x'/><target dev='vda'/>\
         <blockio logical_block_size='0' physical_block_size='512'/></disk>",
        "<blockio physical_block_size='512'/>",
    ),
    ("", "<graphics type='vnc' passwd=''/>", "<graphics type='vnc' port='-1' autoport='yes' passwd=''>"),
    // An address says itself of which family it is.
    (
        "",
        "<interface type='user'><mac address='52:54:00:00:00:01'/><ip address='10' family='x' prefix='0'/></interface>",
        "<ip address='0.0.0.10' family='ipv4'/>",
    ),
    // Some words are kept though they are empty.
    ("", "<graphics type='vnc' keymap=''/>", "keymap=''"),
    // A label that is left to the driver says nothing; one that is off, nothing but that.
    (
        "<seclabel model='selinux' relabel='yes'/><seclabel type='none' model='dac'><label>x</label></seclabel>",
        "",
        "</devices><seclabel type='none' model='dac'/></domain>",
    ),
    // A memory module has a slot, whatever place it was given.
    (
        "<maxMemory slots='4' unit='GiB'>4</maxMemory>\
         <cpu><numa><cell id='0' cpus='0-1' memory='512' unit='MiB'/></numa></cpu>",
        "<memory model='dimm'><target><size unit='MiB'>512</size><node>0</node></target><address type='drive'/></memory>",
        "<address type='dimm' slot='0'/>",
    ),
    // Parallel ports are numbered after those before them.
    (
        "",
        "<parallel type='null'/><parallel type='null'><target port='2'/></parallel><parallel type='null'/>",
        "<parallel type='null'><target port='0'/></parallel><parallel type='null'><target port='2'/></parallel>\
         <parallel type='null'><target port='3'/></parallel>",
    ),
];

/// Top, devices, what the command line then has in it (`virsh domxml-to-native qemu-argv` shows the reference's).
const TOLD: &[(&str, &str, &str)] = &[
    (
        "",
        "<smartcard mode='passthrough' type='tcp'><source mode='connect' host='h' service='1'/>\
         <log file='/l' append='on'/></smartcard>",
        "id=charsmartcard0,host=h,port=1,logfile=/l,logappend=on",
    ),
    (
        "",
        "<rng model='virtio'><backend model='egd' type='tcp'><source mode='connect' host='h' service='1'/>\
         <log file='/l'/></backend></rng>",
        "id=charrng0,host=h,port=1,logfile=/l",
    ),
];

/// Top, devices, the refusal.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "",
        "<controller type='pci' index='0'/>",
        "must be model='pcie-root' for this machine type, but model='(null)'",
    ),
    ("", "<input type='mouse' bus='default'/>", "unknown input bus type 'default'"),
    (
        "",
        "<interface type='user'><ip address='10.0.0.1' family='ipv6'/></interface>",
        "Invalid address '10.0.0.1' in <ip>",
    ),
    (
        "",
        "<controller type='usb' model='none'/><controller type='usb' index='1'/><video><model type='x'/></video>",
        "Can't add another USB controller",
    ),
    (
        "",
        "<controller type='usb' model='none'/><sound model='usb'/>",
        "USB is disabled for this domain, but USB",
    ),
    (
        "",
        "<input type='mouse' bus='virtio'><address type='pci' slot='0x1f' function='3'/></input>",
        "Attempted double use of PCI Address 0000:00:1f.3",
    ),
    (
        "<clock offset='utc'><timer name='rtc' track='boot'/></clock>",
        "",
        "unsupported rtc timer track 'boot'",
    ),
    (
        "",
        "<disk type='block' device='lun'><source dev='/dev/sda'><reservations managed='no'/></source>\
         <target dev='sda' bus='scsi'/></disk>",
        "missing connection type for <reservations/>",
    ),
    (
        "",
        "<hostdev mode='subsystem' type='mdev'><source/></hostdev>",
        "Missing required attribute 'model' in element",
    ),
    (
        "",
        "<graphics type='dbus'><audio id='1'/></graphics><audio id='1' type='none'/>",
        "The associated audio is not of 'dbus' kind.",
    ),
    (
        "<iothreads>1</iothreads>",
        "<disk type='file'><driver queues='2'><iothreads><iothread id='1'><queue id='0'/></iothread></iothreads>\
         </driver><source file='/x'/><target dev='vda'/></disk>",
        "missing iothread mapping for queue '1'",
    ),
    ("<seclabel relabel='no'/>", "", "missing security model in domain seclabel"),
    (
        "",
        "<controller type='scsi' index='-1'/>",
        "'index' in element 'controller': '-1'. Expected non-negative value",
    ),
    (
        "",
        "<controller type='scsi' index='x'/>",
        "'index' in element 'controller': 'x'. Expected integer value",
    ),
    ("<seclabel/><seclabel/>", "", "seclabel for model (null) is already provided"),
    ("<features><kvm><new state='on'/></kvm></features>", "", "unsupported KVM feature: new"),
    ("<idmap><uid start='0' count='1'/></idmap>", "", "invalid idmap start/target/count settings"),
    ("<cputune><cachetune/></cputune>", "", "Missing cachetune attribute 'vcpus'"),
    ("", "<channel type='null'><target type='guestfwd'/></channel>", "does not define a target address"),
    ("", "<rng model='virtio'><backend model='egd'/></rng>", "missing EGD backend type"),
    ("", "<redirdev type='x'/>", "unknown redirdev character device type 'x'"),
    (
        "",
        "<interface type='vdpa'><source/></interface>",
        "Missing required attribute 'dev' in element 'source'",
    ),
    (
        "",
        "<interface type='bridge'><source bridge='b'/><virtualport/></interface>",
        "missing required virtualport type",
    ),
    (
        "<iothreads>2</iothreads>",
        "<disk type='file'><driver><iothreads><iothread id='1'/><iothread id='1'/></iothreads></driver>\
         <source file='/x'/><target dev='vda'/></disk>",
        "duplicate mapping for iothread '1'",
    ),
    (
        "<memoryBacking><hugepages><page size='1' unit='G'/><page size='2' unit='M'/></hugepages></memoryBacking>",
        "",
        "two master hugepages detected: 2048 and 1048576",
    ),
    // Of two mistakes the reference tells that first which it reads first, whatever comes first in the text; all that
    // is read, before what is only found in the whole.
    ("<clock offset='x'/>", "<video><model type='x'/></video>", "unknown clock offset 'x'"),
    (
        "<cputune><iothreadpin iothread='7' cpuset='0'/></cputune>",
        "<disk type='x'/>",
        "Cannot find 'iothread' : 7",
    ),
    ("<sysinfo type='x'/>", "<video><model type='x'/></video>", "'type' in element 'model': 'x'"),
    (
        "<on_reboot>preserve</on_reboot>",
        "<controller type='scsi' index='3'/><controller type='scsi' index='3'/>",
        "Multiple 'scsi' controllers with index '3'",
    ),
    (
        "",
        "<graphics type='rdp'/><disk type='file'><source file='/x'/></disk>",
        "missing target information for device /x",
    ),
    ("", "<shmem name='s'/>", "ivshmem device is no longer supported"),
    (
        "",
        "<pstore backend='acpi-erst'><size unit='KiB'>100</size></pstore>",
        "invalid size of ACPI ERST pstore device",
    ),
    ("", "<video><model type='vga'><acceleration/></model></video>", "missing values for acceleration"),
    ("", "<redirfilter><usbdev class='0x300' allow='yes'/></redirfilter>", "Invalid USB Class code 0x300"),
    (
        "",
        "<interface type='vhostuser'><source type='unix' path='/x' mode='client'/></interface>",
        "'interface' requires shared memory",
    ),
    (
        "",
        "<interface type='user'><virtualport type='openvswitch'/></interface>",
        "<virtualport> element unsupported for <interface type='user'>",
    ),
    (
        "",
        "<interface type='bridge'><source bridge='b'/><virtualport/></interface>",
        "missing required virtualport type",
    ),
    (
        "",
        "<interface type='bridge'><source bridge='b'/><virtualport type='802.1Qbh'/></interface>",
        "missing profileid in <virtualport type='802.1Qbh'>",
    ),
    (
        "",
        "<interface type='network'><source network='n'/><virtualport type='openvswitch'>\
         <parameters typeid='3'/></virtualport></interface>",
        "extra typeid unsupported in <virtualport type='openvswitch'>",
    ),
    (
        "",
        "<interface type='network'><source network='n'/><bandwidth><outbound average='1' floor='2'/></bandwidth>\
         </interface>",
        "floor attribute is not supported for this config",
    ),
    (
        "",
        "<interface type='user'><target dev='t' managed='no'/></interface>",
        "unmanaged target dev is not supported on interfaces of type 'user'",
    ),
    (
        "",
        "<rng model='virtio'><backend model='builtin'/><address type='unassigned'/></rng>",
        "address of type 'unassigned' is supported only for hostdevs",
    ),
    (
        "",
        "<disk type='file'><source file='/a'/><target dev='vda'/><serial>a,b</serial></disk>",
        "driver serial 'a,b' contains unsafe characters",
    ),
    (
        "<memtune><min_guarantee>1</min_guarantee></memtune>",
        "",
        "Parameter 'min_guarantee' not supported by QEMU.",
    ),
    (
        "<vcpus><vcpu id='0' enabled='yes'/><vcpu id='1' enabled='no' hotpluggable='no'/></vcpus>",
        "",
        "vcpu '1' is both offline and not hotpluggable",
    ),
    (
        "",
        "<rng model='virtio'><backend model='egd' type='null'><log file='/l'/><log file='/m'/></backend></rng>",
        "only one log element is allowed for character device",
    ),
    (
        "",
        "<smartcard mode='passthrough' type='null'><log file='/l' append='maybe'/></smartcard>",
        "Invalid value for attribute 'append' in element 'log': 'maybe'.",
    ),
    ("<launchSecurity type='sev'/>", "", "failed to get launch security policy"),
    (
        "<launchSecurity type='tdx'/>",
        "",
        "Invalid value for attribute 'type' in element 'launchSecurity': 'tdx'.",
    ),
];

#[test]
fn documents_are_written_as_the_reference_writes_them() {
    let Some(emulators) = emulators() else { return };
    for (top, devices, want) in WRITTEN {
        let xml = read(top, devices, &emulators).unwrap_or_else(|e| panic!("{top}{devices}: {e}"));
        let xml: String = xml.lines().map(str::trim).collect();
        assert!(xml.contains(want), "{top}{devices}: no {want} in {xml}");
    }
}

#[test]
fn qemu_is_told_what_the_reference_tells_it() {
    let Some(emulators) = emulators() else { return };
    for (top, devices, want) in TOLD {
        let line = document::read(&guest(top, devices), &emulators).and_then(|(def, emulator)| {
            command::native(def, &emulator, emulators.cpus(), command::Settings::default())
        });
        let line = line.unwrap_or_else(|e| panic!("{top}{devices}: {e}")).to_shell();
        assert!(line.contains(want), "{top}{devices}: no {want} in {line}");
    }
}

#[test]
fn documents_are_refused_as_the_reference_refuses_them() {
    let Some(emulators) = emulators() else { return };
    for (top, devices, want) in REFUSED {
        match read(top, devices, &emulators) {
            Err(text) => assert!(text.contains(want), "{top}{devices}: {text}"),
            Ok(_) => panic!("accepted: {top}{devices}"),
        }
    }
}
