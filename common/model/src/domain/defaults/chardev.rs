//! Ports of character devices, and the first serial port that is the first console too.

use virt_error::Error;

use super::super::Domain;
use super::super::chardev::{
    CharBackend, Console, ConsoleTarget, Serial, SerialTarget, SocketMode, TcpProtocol, UnixSource,
};
use super::super::misc::{RngBackend, SmartcardMode};
use super::unsupported;

pub(super) fn complete(d: &mut Domain) -> Result<(), Error> {
    let dev = &mut d.devices;
    let backends = dev.serials.iter_mut().map(|x| &mut x.backend);
    let backends = backends.chain(dev.parallels.iter_mut().map(|x| &mut x.backend));
    let backends = backends.chain(dev.consoles.iter_mut().map(|x| &mut x.backend));
    let backends = backends.chain(dev.channels.iter_mut().map(|x| &mut x.backend));
    let backends = backends.chain(dev.redirdevs.iter_mut().map(|x| &mut x.backend));
    let backends = backends.chain(dev.smartcards.iter_mut().filter_map(|x| match &mut x.mode {
        SmartcardMode::Passthrough(b) => Some(&mut b.backend),
        _ => None,
    }));
    backends.for_each(backend);
    for rng in &mut dev.rngs {
        if let Some(RngBackend::Egd(b)) = &mut rng.backend {
            backend(&mut b.backend);
        }
    }
    // Ports that are said to be a PC's own are counted among themselves, the others among all.
    let own = |s: &&mut Serial| s.target.kind == Some(SerialTarget::Isa);
    number(dev.serials.iter_mut().filter(own).map(|s| &mut s.target.port));
    number(dev.serials.iter_mut().map(|s| &mut s.target.port));
    // Unlike serial ports, parallel ones are numbered after those before them.
    let mut next = 0;
    for port in dev.parallels.iter_mut().map(|p| &mut p.port) {
        next = port.get_or_insert(next).saturating_add(1).max(next);
    }
    if d.os.kind.name.as_deref() == Some("hvm") {
        twin(&mut d.devices.serials, &mut d.devices.consoles)?;
    }
    // A console's port is its place in the list; a twin shows the serial port's.
    let first = d.devices.serials.first().and_then(|s| s.target.port);
    for (i, console) in d.devices.consoles.iter_mut().enumerate() {
        let kind = *console.target.kind.get_or_insert(ConsoleTarget::Serial);
        console.target.port = match first {
            Some(port) if i == 0 && kind == ConsoleTarget::Serial => Some(port),
            _ => Some(i as u32),
        };
    }
    Ok(())
}

/// What a backend says when the document says nothing.
fn backend(b: &mut CharBackend) {
    match b {
        CharBackend::Tcp(t) => {
            t.source.mode.get_or_insert(SocketMode::Connect);
            t.protocol.get_or_insert(TcpProtocol::Raw);
        }
        CharBackend::Unix(u) => match u.path {
            // Without a path nothing of the source is kept; the driver makes a socket of its own.
            None => *u = UnixSource { seclabels: std::mem::take(&mut u.seclabels), ..UnixSource::default() },
            Some(_) => {
                u.mode.get_or_insert(SocketMode::Connect);
            }
        },
        CharBackend::Udp(u) => u.sources.iter_mut().for_each(|s| {
            s.mode.get_or_insert(SocketMode::Connect);
        }),
        _ => {}
    }
}

/// Ports not given are one more than the largest so far.
fn number<'a>(ports: impl Iterator<Item = &'a mut Option<u32>>) {
    let mut ports: Vec<_> = ports.collect();
    let mut next = ports.iter().filter_map(|p| **p).max().map_or(0, |p| p.saturating_add(1));
    for port in ports.iter_mut().filter(|p| p.is_none()) {
        **port = Some(next);
        next = next.saturating_add(1);
    }
}

/// Serial targets whose first device doubles as the first console.
fn doubles(serial: &Serial) -> bool {
    use SerialTarget as T;
    matches!(serial.target.kind, None | Some(T::None | T::Isa | T::SpaprVio | T::System | T::Sclp))
}

fn twin(serials: &mut Vec<Serial>, consoles: &mut Vec<Console>) -> Result<(), Error> {
    let serial =
        |c: &Console| matches!(c.target.kind, None | Some(ConsoleTarget::None | ConsoleTarget::Serial));
    if consoles.iter().skip(1).any(serial) {
        return Err(unsupported("Only the first console can be a serial port"));
    }
    let first_is_serial = consoles.first().is_some_and(serial);
    if first_is_serial && serials.is_empty() {
        let console = &consoles[0];
        let mut made = Serial {
            backend: console.backend.clone(),
            log: console.log.clone(),
            info: console.info.clone(),
            ..Serial::default()
        };
        made.target.port = Some(0);
        serials.push(made);
    }
    // A console that is a serial port is the first one, whatever it sits on.
    let Some(first) = serials.first().filter(|s| first_is_serial || doubles(s)) else { return Ok(()) };
    if !first_is_serial {
        consoles.insert(0, Console::default());
    }
    let Some(console) = consoles.first_mut() else { return Ok(()) };
    console.backend = first.backend.clone();
    console.log = first.log.clone();
    console.info.alias = first.info.alias.clone();
    console.info.address = first.info.address.clone();
    console.target.kind = Some(ConsoleTarget::Serial);
    Ok(())
}
