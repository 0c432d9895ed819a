//! Amounts and limits: vCPUs, memory, I/O threads, pins.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tonic::{Request, Response, Status};
use virt_api::domain::v1alpha1::domain_tuning_service_server::DomainTuningService;
use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Bitmap;
use virt_model::domain::Domain as Document;
use virt_object::blocking;
use virt_rpc::answer;

use super::check::{affect, affect_flags, flags, reads, zero};
use super::parameters;
use crate::agent;
use crate::config::{
    self,
    affect::{Affect, exclusive},
    iothreads, memory, pins, vcpus,
};
use crate::definitions::{Announce, Change, Completion, Definitions};
use crate::guest::{Guest, Work};
use crate::host::HostFacts;
use crate::live;
use crate::stats::cpu;

/// Answers [`DomainTuningService`].
#[derive(Clone)]
pub struct TuningApi {
    definitions: Definitions,
    host: Arc<HostFacts>,
}

/// A change of an amount: nothing of the document follows it, and nobody is told.
fn quiet(name: &'static str) -> Change {
    Change { name, completion: Completion::Keep, announce: Announce::Nothing }
}

/// The host's CPUs as maps need them.
struct HostCpus {
    online: Bitmap,
    bytes: usize,
}

impl TuningApi {
    /// A service for these guests on this host.
    pub fn new(definitions: Definitions, host: Arc<HostFacts>) -> Self {
        Self { definitions, host }
    }

    fn find(&self, domain: Option<&DomainRef>) -> Result<Arc<Guest>> {
        self.definitions.driver().find(domain)
    }

    /// Runs a live change, and the same for the persistent configuration where that is asked for too: both or none.
    async fn both<L, F>(
        &self,
        guest: &Guest,
        affect: Affect,
        name: &'static str,
        live: L,
        edit: F,
    ) -> Result<Empty>
    where
        L: for<'a> FnOnce(&'a mut Work) -> BoxFuture<'a, Result<()>> + Send + 'static,
        F: FnOnce(&mut Document) -> Result<()> + Send + 'static,
    {
        self.definitions.both(guest, affect, quiet(name), live, edit).await?;
        Ok(Empty {})
    }

    async fn host_cpus(&self) -> Result<HostCpus> {
        let host = self.host.clone();
        blocking::run(move || {
            let (online, count) = host.online_cpus();
            Ok(HostCpus { online: online.into_iter().collect(), bytes: (count as usize).div_ceil(8) })
        })
        .await
    }

    async fn set_memory(&self, r: SetMemoryRequest) -> Result<Empty> {
        flags(r.flags, ALL_DOMAIN_MEMORY_MOD_FLAGS, "qemuDomainSetMemoryFlags")?;
        if r.memory == 0 {
            return Err(zero("virDomainSetMemoryFlags", "memory"));
        }
        let guest = self.find(r.domain.as_ref())?;
        let affect = affect(&guest.published().value, r.flags)?;
        let maximum = r.flags & VIR_DOMAIN_MEM_MAXIMUM != 0;
        if affect.live && maximum {
            let text = "cannot resize the maximum memory on an active domain";
            return Err(Error::new(Code::OperationInvalid, From::Qemu, text));
        }
        let edit = move |d: &mut Document| match maximum {
            true => memory::set_maximum(d, r.memory),
            false => memory::set_current(d, r.memory),
        };
        self.both(&guest, affect, "memory", move |w| Box::pin(live::memory::set_current(w, r.memory)), edit)
            .await
    }

    async fn set_vcpus(&self, r: SetVcpusRequest) -> Result<Empty> {
        let function = "virDomainSetVcpusFlags";
        let given = |bit: u32| r.flags & bit != 0;
        if given(VIR_DOMAIN_VCPU_GUEST) && given(VIR_DOMAIN_AFFECT_CONFIG) {
            let text = "Flags 'VIR_DOMAIN_VCPU_GUEST' and 'VIR_DOMAIN_AFFECT_CONFIG' are mutually exclusive";
            return Err(Error::invalid_arg(From::Domain, function, "ctl", text));
        }
        if given(VIR_DOMAIN_VCPU_MAXIMUM) && !given(VIR_DOMAIN_AFFECT_CONFIG) {
            let text = "Flag 'VIR_DOMAIN_AFFECT_CONFIG' is required by flag 'VIR_DOMAIN_VCPU_MAXIMUM'";
            return Err(Error::invalid_arg(From::Domain, function, "ctl", text));
        }
        if r.count == 0 {
            return Err(zero(function, "nvcpus"));
        }
        flags(r.flags, ALL_DOMAIN_VCPU_FLAGS, "qemuDomainSetVcpusFlags")?;
        let guest = self.find(r.domain.as_ref())?;
        let published = guest.published();
        let affect = affect(&published.value, r.flags)?;
        if given(VIR_DOMAIN_VCPU_GUEST) && !published.value.is_active() {
            return Err(crate::guest::not_running_qemu());
        }
        if given(VIR_DOMAIN_VCPU_GUEST) {
            agent::vcpus::set_count(&guest, r.count).await?;
            return Ok(Empty {});
        }
        let (maximum, hotpluggable) = (given(VIR_DOMAIN_VCPU_MAXIMUM), given(VIR_DOMAIN_VCPU_HOTPLUGGABLE));
        let edit = move |d: &mut Document| match maximum {
            true => vcpus::set_maximum(d, r.count),
            false => vcpus::set_current(d, r.count, hotpluggable),
        };
        self.both(&guest, affect, "vcpus", move |w| Box::pin(live::vcpus::set(w, r.count)), edit).await
    }

    async fn set_vcpu(&self, r: SetVcpuRequest) -> Result<Empty> {
        affect_flags(r.flags, "qemuDomainSetVcpu")?;
        let guest = self.find(r.domain.as_ref())?;
        let affect = affect(&guest.published().value, r.flags)?;
        let ids: Vec<u32> = config::bitmap(&r.vcpus)?.iter().collect();
        if ids.is_empty() {
            return Err(Error::new(Code::InvalidArg, From::Qemu, "no vcpus selected for modification"));
        }
        let named = ids.clone();
        let edit = move |d: &mut Document| vcpus::set_each(d, &named, r.on);
        self.both(&guest, affect, "vcpus", move |w| Box::pin(live::vcpus::set_each(w, ids, r.on)), edit).await
    }

    async fn vcpus_count(&self, r: &FlagsRequest) -> Result<CountResponse> {
        let function = "virDomainGetVcpusFlags";
        let known = VIR_DOMAIN_AFFECT_LIVE
            | VIR_DOMAIN_AFFECT_CONFIG
            | VIR_DOMAIN_VCPU_MAXIMUM
            | VIR_DOMAIN_VCPU_GUEST;
        exclusive(r.flags, function)?;
        flags(r.flags, known, "qemuDomainGetVcpusFlags")?;
        let guest = self.find(r.domain.as_ref())?;
        let published = guest.published();
        if r.flags & VIR_DOMAIN_VCPU_GUEST != 0 {
            if !published.value.is_active() || r.flags & VIR_DOMAIN_AFFECT_CONFIG != 0 {
                let text = "vCPU count provided by the guest agent can only be requested for live domains";
                return Err(Error::new(Code::InvalidArg, From::Qemu, text));
            }
            let count = agent::vcpus::count(&guest, r.flags & VIR_DOMAIN_VCPU_MAXIMUM != 0).await?;
            return Ok(CountResponse { count: i32::try_from(count).unwrap_or(i32::MAX) });
        }
        let document = reads(&published.value, r.flags, function)?;
        let maximum = r.flags & VIR_DOMAIN_VCPU_MAXIMUM != 0;
        let count = if maximum { vcpus::maximum(&document) } else { vcpus::current(&document) };
        Ok(CountResponse { count: i32::try_from(count).unwrap_or(i32::MAX) })
    }

    async fn pins(&self, r: GetPinsRequest, emulator: bool) -> Result<GetPinsResponse> {
        let (driver, api) = match emulator {
            true => ("qemuDomainGetEmulatorPinInfo", "virDomainGetEmulatorPinInfo"),
            false => ("qemuDomainGetVcpuPinInfo", "virDomainGetVcpuPinInfo"),
        };
        affect_flags(r.flags, driver)?;
        let guest = self.find(r.domain.as_ref())?;
        let document = reads(&guest.published().value, r.flags, api)?;
        let host = self.host_cpus().await?;
        let sets = match emulator {
            true => vec![pins::emulator(&document, &host.online)],
            false => pins::vcpus(&document, &host.online),
        };
        let tune = &document.cputune;
        let pinned = if emulator { tune.emulatorpin.is_some() } else { !tune.vcpupins.is_empty() };
        Ok(GetPinsResponse { maps: sets.iter().map(|s| map(s, host.bytes).into()).collect(), pinned })
    }

    async fn pin(&self, r: PinRequest, emulator: bool) -> Result<Empty> {
        affect_flags(r.flags, if emulator { "qemuDomainPinEmulator" } else { "qemuDomainPinVcpuFlags" })?;
        let guest = self.find(r.domain.as_ref())?;
        let affect = affect(&guest.published().value, r.flags)?;
        let host = self.host_cpus().await?;
        let cpus: Bitmap = unmap(&r.map).into_iter().filter(|c| (*c as usize) < host.bytes * 8).collect();
        let wanted = cpus.clone();
        let change = move |w: &mut Work| match emulator {
            true => live::affinity::pin_emulator(w, &wanted),
            false => live::affinity::pin_vcpu(w, r.number, &wanted),
        };
        let edit = move |d: &mut Document| match emulator {
            true => pins::pin_emulator(d, cpus),
            false => pins::pin_vcpu(d, r.number, cpus),
        };
        self.both(&guest, affect, "pin", move |w| Box::pin(async move { change(w) }), edit).await
    }

    async fn pin_iothread(&self, r: PinRequest) -> Result<Empty> {
        affect_flags(r.flags, "qemuDomainPinIOThread")?;
        let guest = self.find(r.domain.as_ref())?;
        let affect = affect(&guest.published().value, r.flags)?;
        let host = self.host_cpus().await?;
        let cpus: Bitmap = unmap(&r.map).into_iter().filter(|c| (*c as usize) < host.bytes * 8).collect();
        if cpus.is_empty() {
            let text = "Empty iothread cpumap list for pinning";
            return Err(Error::new(Code::InvalidArg, From::Qemu, text));
        }
        let wanted = cpus.clone();
        let edit = move |d: &mut Document| pins::pin_iothread(d, r.number, cpus);
        let number = r.number;
        self.both(
            &guest,
            affect,
            "pin",
            move |w| Box::pin(live::affinity::pin_iothread(w, number, wanted)),
            edit,
        )
        .await
    }

    async fn iothreads(&self, r: FlagsRequest) -> Result<GetIothreadsResponse> {
        affect_flags(r.flags, "qemuDomainGetIOThreadInfo")?;
        let guest = self.find(r.domain.as_ref())?;
        let document = reads(&guest.published().value, r.flags, "virDomainGetIOThreadInfo")?;
        let host = self.host_cpus().await?;
        let row = |id| Iothread {
            id,
            affinity: map(&pins::iothread(&document, id, &host.online), host.bytes).into(),
        };
        Ok(GetIothreadsResponse { iothreads: iothreads::ids(&document).into_iter().map(row).collect() })
    }

    async fn change_iothread(&self, r: IothreadRequest, add: bool) -> Result<Empty> {
        let (driver, api) = match add {
            true => ("qemuDomainAddIOThread", "virDomainAddIOThread"),
            false => ("qemuDomainDelIOThread", "virDomainDelIOThread"),
        };
        if !add && r.id == 0 {
            return Err(zero(api, "iothread_id"));
        }
        affect_flags(r.flags, driver)?;
        let guest = self.find(r.domain.as_ref())?;
        let affect = affect(&guest.published().value, r.flags)?;
        let edit =
            move |d: &mut Document| if add { iothreads::add(d, r.id) } else { iothreads::remove(d, r.id) };
        if add {
            self.both(&guest, affect, api, move |w| Box::pin(live::iothreads::add(w, r.id)), edit).await
        } else {
            self.both(&guest, affect, api, move |w| Box::pin(live::iothreads::remove(w, r.id)), edit).await
        }
    }

    async fn stats_period(&self, r: SetMemoryStatsPeriodRequest) -> Result<Empty> {
        let function = "virDomainSetMemoryStatsPeriod";
        if r.period < 0 {
            let text = format!("period in {function} must be zero or greater");
            return Err(Error::invalid_arg(From::Domain, function, "period", text));
        }
        affect_flags(r.flags, "qemuDomainSetMemoryStatsPeriod")?;
        let guest = self.find(r.domain.as_ref())?;
        let affect = affect(&guest.published().value, r.flags)?;
        let edit = move |d: &mut Document| memory::set_stats_period(d, r.period);
        self.both(
            &guest,
            affect,
            "memory statistics",
            move |w| Box::pin(live::memory::set_stats_period(w, r.period)),
            edit,
        )
        .await
    }
}

fn map(cpus: &Bitmap, bytes: usize) -> Vec<u8> {
    let mut map = vec![0u8; bytes];
    for cpu in cpus.iter() {
        if let Some(byte) = map.get_mut(cpu as usize / 8) {
            *byte |= 1 << (cpu % 8);
        }
    }
    map
}

fn unmap(map: &[u8]) -> Vec<u32> {
    let bits = map
        .iter()
        .zip(0u32..)
        .flat_map(|(byte, at)| (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| at * 8 + bit));
    bits.collect()
}

#[tonic::async_trait]
impl DomainTuningService for TuningApi {
    async fn set_memory(&self, request: Request<SetMemoryRequest>) -> Result<Response<Empty>, Status> {
        answer(self.set_memory(request.into_inner())).await
    }

    async fn set_memory_stats_period(
        &self,
        request: Request<SetMemoryStatsPeriodRequest>,
    ) -> Result<Response<Empty>, Status> {
        answer(self.stats_period(request.into_inner())).await
    }

    async fn get_max_memory(
        &self,
        request: Request<DomainRequest>,
    ) -> Result<Response<MemoryResponse>, Status> {
        answer(async {
            let guest = self.find(request.into_inner().domain.as_ref())?;
            let document = reads(&guest.published().value, 0, "virDomainGetMaxMemory")?;
            Ok(MemoryResponse { memory: memory::maximum(&document) })
        })
        .await
    }

    async fn set_vcpus(&self, request: Request<SetVcpusRequest>) -> Result<Response<Empty>, Status> {
        answer(self.set_vcpus(request.into_inner())).await
    }

    async fn set_vcpu(&self, request: Request<SetVcpuRequest>) -> Result<Response<Empty>, Status> {
        answer(self.set_vcpu(request.into_inner())).await
    }

    async fn get_vcpus_count(
        &self,
        request: Request<FlagsRequest>,
    ) -> Result<Response<CountResponse>, Status> {
        answer(async { self.vcpus_count(&request.into_inner()).await }).await
    }

    async fn get_vcpus(
        &self,
        request: Request<GetVcpusRequest>,
    ) -> Result<Response<GetVcpusResponse>, Status> {
        answer(async {
            let guest = self.find(request.into_inner().domain.as_ref())?;
            if !guest.published().value.is_active() {
                let text = "cannot retrieve vcpu information for inactive domain";
                return Err(Error::new(Code::OperationInvalid, From::Qemu, text));
            }
            let host = self.host_cpus().await?;
            let found = cpu::places(&guest.published().value).await;
            let vcpus = found.into_iter().map(|v| Vcpu {
                number: v.number,
                state: VIR_VCPU_RUNNING,
                cpu_time: v.time,
                cpu: i32::try_from(v.cpu).unwrap_or(-1),
                affinity: v.allowed_map(host.bytes).into(),
            });
            Ok(GetVcpusResponse { vcpus: vcpus.collect() })
        })
        .await
    }

    async fn get_vcpu_pins(
        &self,
        request: Request<GetPinsRequest>,
    ) -> Result<Response<GetPinsResponse>, Status> {
        answer(self.pins(request.into_inner(), false)).await
    }

    async fn pin_vcpu(&self, request: Request<PinRequest>) -> Result<Response<Empty>, Status> {
        answer(self.pin(request.into_inner(), false)).await
    }

    async fn get_emulator_pin(
        &self,
        request: Request<GetPinsRequest>,
    ) -> Result<Response<GetPinsResponse>, Status> {
        answer(self.pins(request.into_inner(), true)).await
    }

    async fn pin_emulator(&self, request: Request<PinRequest>) -> Result<Response<Empty>, Status> {
        answer(self.pin(request.into_inner(), true)).await
    }

    async fn pin_iothread(&self, request: Request<PinRequest>) -> Result<Response<Empty>, Status> {
        answer(self.pin_iothread(request.into_inner())).await
    }

    async fn get_iothreads(
        &self,
        request: Request<FlagsRequest>,
    ) -> Result<Response<GetIothreadsResponse>, Status> {
        answer(self.iothreads(request.into_inner())).await
    }

    async fn add_iothread(&self, request: Request<IothreadRequest>) -> Result<Response<Empty>, Status> {
        answer(self.change_iothread(request.into_inner(), true)).await
    }

    async fn del_iothread(&self, request: Request<IothreadRequest>) -> Result<Response<Empty>, Status> {
        answer(self.change_iothread(request.into_inner(), false)).await
    }

    async fn get_parameters(
        &self,
        request: Request<GetParametersRequest>,
    ) -> Result<Response<ParametersResponse>, Status> {
        answer(async { parameters::get(&self.definitions, &request.into_inner()).await }).await
    }

    async fn set_parameters(
        &self,
        request: Request<SetParametersRequest>,
    ) -> Result<Response<Empty>, Status> {
        answer(parameters::set(&self.definitions, request.into_inner())).await
    }

    async fn get_scheduler_type(
        &self,
        request: Request<DomainRequest>,
    ) -> Result<Response<SchedulerTypeResponse>, Status> {
        answer(async {
            self.find(request.into_inner().domain.as_ref())?;
            parameters::needs_groups(&self.definitions, ParameterFamily::Scheduler)?;
            let params = u32::try_from(crate::config::params::scheduler::NAMES.len()).unwrap_or(0);
            Ok(SchedulerTypeResponse { r#type: "posix".to_string(), params })
        })
        .await
    }
}
