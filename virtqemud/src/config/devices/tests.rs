use super::*;
use virt_model::domain::Domain;
use virt_model::domain::disk::DiskBus;
use virt_model::domain::interface::LinkState;

const MAC: &str = "52:54:00:71:b1:b6";

fn domain() -> Domain {
    let xml = format!(
        "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>\
         <disk type='file' device='cdrom'><target dev='hdc' bus='ide'/><readonly/></disk>\
         <disk type='file'><source file='/x.img'/><target dev='vda' bus='virtio'/></disk>\
         <interface type='user'><mac address='{MAC}'/></interface>\
         <graphics type='vnc' port='-1'/></devices></domain>"
    );
    Domain::parse(&xml, Mode::CONFIG).unwrap()
}

fn device(xml: &str) -> Device {
    read(xml, Mode::CONFIG).unwrap()
}

#[test]
fn a_disk_comes_and_goes() {
    let mut d = domain();
    let disk = "<disk type='file'><source file='/y.img'/><target dev='vdb'/></disk>";
    attach(&mut d, device(disk)).unwrap();
    assert_eq!(d.devices.disks[2].target.bus, Some(DiskBus::Virtio));
    let text = attach(&mut d, device(disk)).unwrap_err().message();
    assert_eq!(text, "Requested operation is not valid: target vdb already exists");
    detach(&mut d, &device(disk)).unwrap();
    assert_eq!(
        detach(&mut d, &device(disk)).unwrap_err().message(),
        "device not found: no target device vdb"
    );
}

#[test]
fn a_medium_is_changed() {
    let mut d = domain();
    let cdrom = |source: &str| {
        format!("<disk type='file' device='cdrom'>{source}<target dev='hdc' bus='ide'/><readonly/></disk>")
    };
    update(&mut d, device(&cdrom("<source file='/a.iso'/>"))).unwrap();
    assert_eq!(d.devices.disks[0].source.path(), Some("/a.iso"));
    update(&mut d, device(&cdrom(""))).unwrap();
    assert_eq!(d.devices.disks[0].source.path(), None);
    let none = "<disk type='file'><source file='/z'/><target dev='vdq'/></disk>";
    assert_eq!(
        update(&mut d, device(none)).unwrap_err().message(),
        "invalid argument: target vdq doesn't exist."
    );
}

#[test]
fn a_card_is_found_by_its_address() {
    let mut d = domain();
    let card = |mac: &str, more: &str| format!("<interface type='user'>{mac}{more}</interface>");
    update(&mut d, device(&card(&format!("<mac address='{MAC}'/>"), "<link state='down'/>"))).unwrap();
    assert_eq!(d.devices.interfaces[0].link, Some(LinkState::Down));
    let text = update(&mut d, device(&card("<mac address='52:54:00:00:00:01'/>", ""))).unwrap_err().message();
    let want = "device not found: no device found at address '(<null>)' matching MAC address '52:54:00:00:00:01' and alias '(<null>)'";
    assert_eq!(text, want);
    attach(&mut d, device(&card("<mac address='52:54:00:00:00:01'/>", ""))).unwrap();
    let text = detach(&mut d, &device(&card("", ""))).unwrap_err().message();
    assert_eq!(text, "operation failed: multiple matching devices found");
    detach(&mut d, &device(&card(&format!("<mac address='{MAC}'/>"), ""))).unwrap();
    detach(&mut d, &device(&card("", ""))).unwrap();
    assert!(d.devices.interfaces.is_empty());
}

#[test]
fn what_cannot_be_done_is_refused() {
    let mut d = domain();
    let refused = |r: Result<()>| r.unwrap_err().message();
    let text = refused(attach(&mut d, device("<graphics type='vnc'/>")));
    assert_eq!(text, "Operation not supported: persistent attach of device 'graphics' is not supported");
    let text = refused(detach(&mut d, &device("<memballoon model='virtio'/>")));
    assert_eq!(text, "Operation not supported: persistent detach of device 'memballoon' is not supported");
    let rng = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>";
    let text = refused(update(&mut d, device(rng)));
    assert_eq!(text, "Operation not supported: persistent update of device 'rng' is not supported");
    let text = refused(detach(&mut d, &device(rng)));
    assert_eq!(text, "device not found: no matching RNG device was found");
    let text = refused(update(&mut d, device("<graphics type='sdl'/>")));
    assert_eq!(text, "invalid argument: cannot find existing graphics type 'sdl' device to modify");
    assert_eq!(refused(detach_alias(&mut d, "ua-x")), "internal error: no device found with alias ua-x");
    let text = read("<foo/>", Mode::CONFIG).unwrap_err().message();
    assert_eq!(text, "unsupported configuration: unknown device type 'foo'");
    assert!(read("<disk", Mode::CONFIG).is_err() && read("", Mode::CONFIG).is_err());
}
