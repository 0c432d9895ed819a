//! Documents of our own that tests start from.

/// Guests with a bit of everything, to start from.
pub const SEEDS: &[&str] = &[
    "<domain type='qemu'><name>a</name><memory>1048576</memory><vcpu current='1'>4</vcpu><os><type arch='x86_64' machine='q35'>hvm</type>\
     <boot dev='hd'/></os><features><acpi/><apic/></features><cpu mode='custom' match='exact'><model>qemu64</model>\
     <topology sockets='2' cores='2' threads='1'/></cpu><clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock><devices>\
     <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='/a'/><target dev='vda' bus='virtio'/></disk>\
     <disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='x'><host name='h' port='9'/></source>\
     <target dev='sda' bus='scsi'/></disk><controller type='scsi' index='0' model='virtio-scsi'/><interface type='user'>\
     <mac address='52:54:00:00:00:01'/><model type='virtio'/></interface><serial type='pty'/>\
     <smartcard mode='passthrough' type='tcp'><source mode='bind' host='127.0.0.1' service='9'/><log file='/l' append='on'/></smartcard>\
     <channel type='unix'><target type='virtio' name='a.b'/>\
     </channel><input type='tablet' bus='usb'/><graphics type='vnc' port='-1' autoport='yes'/><video><model type='virtio' heads='1'/></video>\
     <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng><watchdog model='i6300esb' action='reset'/></devices></domain>",
    "<domain type='qemu'><name>b</name><maxMemory slots='4' unit='GiB'>4</maxMemory><memory>1310720</memory><vcpu>2</vcpu><os>\
     <type arch='x86_64' machine='pc'>hvm</type><bootmenu enable='yes' timeout='100'/></os><cpu><numa>\
     <cell id='0' cpus='0-1' memory='1048576'/></numa></cpu><devices><disk type='block' device='cdrom'><source dev='/dev/sr0'/>\
     <target dev='hda' bus='ide'/></disk><disk type='file' device='floppy'><source file='/f'/><target dev='fda'/></disk>\
     <controller type='usb' index='0' model='ich9-ehci1'/><interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='br0'/>\
     <bandwidth><inbound average='10'/></bandwidth><boot order='1'/></interface><parallel type='file'><source path='/p'/></parallel>\
     <console type='pty'><target type='virtio'/></console><sound model='ich6'><codec type='micro'/></sound><tpm model='tpm-tis'>\
     <backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm><hub type='usb'/><memballoon model='virtio'><stats period='5'/>\
     </memballoon><memory model='dimm'><target><size unit='MiB'>256</size><node>0</node></target></memory><panic model='isa'/></devices></domain>",
];
