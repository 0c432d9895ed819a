//! Which host CPUs threads run on. The wire packs the bitmaps one after the other, each as long as the client says.

use bytes::Bytes;
use virt_api::domain::v1alpha1::{GetPinsRequest, GetVcpusRequest, PinRequest};
use virt_error::Result;
use virt_wire::remote::{procs, *};
use virt_wire::xdr::Opaque;

use super::super::{Call, Ctx, calls, count, rpc};
use super::{Tuning, to_ref};
use crate::refusal;

pub(super) const CALLS: &[Call] = calls! {
    ask procs::DomainGetVcpus => vcpus;
    ask procs::DomainPinVcpu => pin;
    ask procs::DomainPinVcpuFlags => pin_flags;
    ask procs::DomainGetVcpuPinInfo => pins;
    ask procs::DomainPinEmulator => pin_emulator;
    ask procs::DomainPinIothread => pin_iothread;
    ask procs::DomainGetEmulatorPinInfo => emulator_pin;
};

/// How many bitmaps of how many bytes a client has room for.
#[derive(Debug, Clone, Copy)]
struct Room {
    maps: u32,
    bytes: u32,
}

impl Room {
    /// `name` is the wire's name of the number of maps.
    fn of(name: &str, maps: i32, bytes: i32) -> Result<Self> {
        let maps = refusal::size(name, maps, VCPUINFO_MAX, "REMOTE_VCPUINFO_MAX", refusal::internal)?;
        let bytes = refusal::size("maplen", bytes, CPUMAPS_MAX, "REMOTE_CPUMAPS_MAX", refusal::internal)?;
        if u64::from(maps) * u64::from(bytes) > u64::from(CPUMAPS_MAX) {
            return Err(refusal::internal("maxinfo * maplen > REMOTE_CPUMAPS_MAX"));
        }
        Ok(Self { maps, bytes })
    }

    /// The maps in the client's length, cut or filled with zeroes, and zeroes where there are fewer than it has room for.
    fn pack(self, maps: impl IntoIterator<Item = Bytes>) -> Opaque {
        let (count, length) = (self.maps as usize, self.bytes as usize);
        let mut packed = vec![0; count * length];
        for (map, place) in maps.into_iter().zip(packed.chunks_exact_mut(length.max(1))) {
            let n = map.len().min(length);
            place[..n].copy_from_slice(&map[..n]);
        }
        Opaque(packed)
    }
}

async fn vcpus(c: Ctx, a: DomainGetVcpusArgs) -> Result<DomainGetVcpusRet> {
    let room = Room::of("maxinfo", a.maxinfo, a.maplen)?;
    let request = GetVcpusRequest { domain: to_ref(a.dom), max: room.maps, map_bytes: room.bytes };
    let mut vcpus = rpc!(c, Tuning.get_vcpus(request)).await?.vcpus;
    vcpus.truncate(room.maps as usize);
    let info = vcpus.iter();
    let info = info.map(|v| VcpuInfo { number: v.number, state: v.state, cpu_time: v.cpu_time, cpu: v.cpu });
    let info = info.collect();
    Ok(DomainGetVcpusRet { info, cpumaps: room.pack(vcpus.into_iter().map(|v| v.affinity)) })
}

async fn pin_any(c: Ctx, dom: NonnullDomain, number: u32, map: Opaque, flags: u32) -> Result<()> {
    rpc!(c, Tuning.pin_vcpu(PinRequest { domain: to_ref(dom), number, map: map.0.into(), flags })).await?;
    Ok(())
}

/// The form without flags means the running guest.
async fn pin(c: Ctx, a: DomainPinVcpuArgs) -> Result<()> {
    pin_any(c, a.dom, a.vcpu, a.cpumap, virt_consts::VIR_DOMAIN_AFFECT_LIVE).await
}

async fn pin_flags(c: Ctx, a: DomainPinVcpuFlagsArgs) -> Result<()> {
    pin_any(c, a.dom, a.vcpu, a.cpumap, a.flags).await
}

async fn pins(c: Ctx, a: DomainGetVcpuPinInfoArgs) -> Result<DomainGetVcpuPinInfoRet> {
    let room = Room::of("ncpumaps", a.ncpumaps, a.maplen)?;
    let domain = to_ref(a.dom);
    let request = GetPinsRequest { domain, max: room.maps, map_bytes: room.bytes, flags: a.flags };
    let maps = rpc!(c, Tuning.get_vcpu_pins(request)).await?.maps;
    let num = count(maps.len().min(room.maps as usize));
    Ok(DomainGetVcpuPinInfoRet { cpumaps: room.pack(maps), num })
}

async fn pin_emulator(c: Ctx, a: DomainPinEmulatorArgs) -> Result<()> {
    let request = PinRequest { domain: to_ref(a.dom), number: 0, map: a.cpumap.0.into(), flags: a.flags };
    rpc!(c, Tuning.pin_emulator(request)).await?;
    Ok(())
}

async fn pin_iothread(c: Ctx, a: DomainPinIothreadArgs) -> Result<()> {
    let (domain, map) = (to_ref(a.dom), a.cpumap.0.into());
    rpc!(c, Tuning.pin_iothread(PinRequest { domain, number: a.iothreads_id, map, flags: a.flags })).await?;
    Ok(())
}

async fn emulator_pin(c: Ctx, a: DomainGetEmulatorPinInfoArgs) -> Result<DomainGetEmulatorPinInfoRet> {
    let room = Room::of("ncpumaps", 1, a.maplen)?;
    let request = GetPinsRequest { domain: to_ref(a.dom), max: 1, map_bytes: room.bytes, flags: a.flags };
    let maps = rpc!(c, Tuning.get_emulator_pin(request)).await?.maps;
    let ret = count(maps.len().min(1));
    Ok(DomainGetEmulatorPinInfoRet { cpumaps: room.pack(maps), ret })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_get_the_clients_length() {
        let maps = [&[3][..], &[1, 2, 9], &[7]].map(Bytes::copy_from_slice);
        assert_eq!(Room::of("maxinfo", 2, 2).unwrap().pack(maps.clone()).0, [3, 0, 1, 2]);
        assert_eq!(Room::of("maxinfo", 4, 2).unwrap().pack(maps.clone()).0, [3, 0, 1, 2, 7, 0, 0, 0]);
        assert!(Room::of("maxinfo", 4, 0).unwrap().pack(maps).0.is_empty());
    }

    #[test]
    fn silly_rooms_are_refused_in_the_references_words() {
        let text = |maps, bytes| Room::of("maxinfo", maps, bytes).unwrap_err().message();
        assert_eq!(text(-1, 1), "internal error: maxinfo must be non-negative");
        assert_eq!(text(1, -1), "internal error: maplen must be non-negative");
        assert_eq!(text(16_385, 1), "internal error: maxinfo > REMOTE_VCPUINFO_MAX");
        assert_eq!(text(16_384, 8000), "internal error: maxinfo * maplen > REMOTE_CPUMAPS_MAX");
    }
}
