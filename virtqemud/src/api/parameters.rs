//! Families of named parameters: which functions serve which family.

use std::sync::Arc;

use virt_api::common::v1alpha1::{TypedParam, typed_param};
use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_host::cgroup::Group;
use virt_model::domain::Domain as Document;
use virt_model::domain::disk::IoTune;

use super::check::{affect, flags, live_unsupported, reads};
use crate::config::params::scheduler::Unset;
use crate::config::params::{self, Param, Value};
use crate::definitions::{Announce, Change, Completion, Definitions};
use crate::guest::Work;
use crate::live::{blkio, cpu, iothreads, limits, memtune, numa, throttle};
use crate::process::groups;

const KNOWN: u32 = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG | VIR_TYPED_PARAM_STRING_OKAY;

/// Names of a family's functions: getter and setter of the driver, and of the public API.
struct Names {
    get: &'static str,
    set: &'static str,
    api_get: &'static str,
    api_set: &'static str,
}

fn names(family: ParameterFamily) -> Result<Names> {
    let row = |get, set, api_get, api_set| Ok(Names { get, set, api_get, api_set });
    match family {
        ParameterFamily::Scheduler => row(
            "qemuDomainGetSchedulerParametersFlags",
            "qemuDomainSetSchedulerParametersFlags",
            "virDomainGetSchedulerParametersFlags",
            "virDomainSetSchedulerParametersFlags",
        ),
        ParameterFamily::Memory => row(
            "qemuDomainGetMemoryParameters",
            "qemuDomainSetMemoryParameters",
            "virDomainGetMemoryParameters",
            "virDomainSetMemoryParameters",
        ),
        ParameterFamily::Blkio => row(
            "qemuDomainGetBlkioParameters",
            "qemuDomainSetBlkioParameters",
            "virDomainGetBlkioParameters",
            "virDomainSetBlkioParameters",
        ),
        ParameterFamily::Numa => row(
            "qemuDomainGetNumaParameters",
            "qemuDomainSetNumaParameters",
            "virDomainGetNumaParameters",
            "virDomainSetNumaParameters",
        ),
        ParameterFamily::Interface => row(
            "qemuDomainGetInterfaceParameters",
            "qemuDomainSetInterfaceParameters",
            "virDomainGetInterfaceParameters",
            "virDomainSetInterfaceParameters",
        ),
        ParameterFamily::BlockIoTune => row(
            "qemuDomainGetBlockIoTune",
            "qemuDomainSetBlockIoTune",
            "virDomainGetBlockIoTune",
            "virDomainSetBlockIoTune",
        ),
        ParameterFamily::Perf => row(
            "qemuDomainGetPerfEvents",
            "qemuDomainSetPerfEvents",
            "virDomainGetPerfEvents",
            "virDomainSetPerfEvents",
        ),
        // libvirt tells these among a domain's statistics only.
        ParameterFamily::Iothread => row(
            "qemuDomainGetIOThreadParams",
            "qemuDomainSetIOThreadParams",
            "virDomainGetIOThreadParams",
            "virDomainSetIOThreadParams",
        ),
        ParameterFamily::Unspecified => {
            Err(Error::new(Code::InvalidArg, From::Qemu, "no parameter family is named"))
        }
    }
}

/// Control groups belong to the system daemon: a user's daemon has no CPU, memory and block I/O limits.
pub(super) fn needs_groups(definitions: &Definitions, family: ParameterFamily) -> Result<()> {
    if definitions.driver().partition.is_some() {
        return Ok(());
    }
    let (code, text) = match family {
        ParameterFamily::Scheduler => {
            (Code::OperationUnsupported, "CPU tuning is not available in session mode")
        }
        ParameterFamily::Memory => {
            (Code::OperationUnsupported, "Memory tuning is not available in session mode")
        }
        ParameterFamily::Blkio => {
            (Code::ConfigUnsupported, "Block I/O tuning is not available in session mode")
        }
        _ => return Ok(()),
    };
    Err(Error::new(code, From::Qemu, text))
}

/// Errors with code 55 when the host has no controller for what is asked of a running guest.
fn needs_controller(group: &Group, family: ParameterFamily) -> Result<()> {
    let (controller, text) = match family {
        ParameterFamily::Scheduler => ("cpu", "cgroup CPU controller is not mounted"),
        ParameterFamily::Memory => ("memory", "cgroup memory controller is not mounted"),
        ParameterFamily::Blkio => ("blkio", "blkio cgroup isn't mounted"),
        _ => return Ok(()),
    };
    if group.has(controller) {
        return Ok(());
    }
    Err(Error::new(Code::OperationInvalid, From::Qemu, text))
}

/// `DomainTuningService.GetParameters`.
///
/// # Errors
/// Code 8 for a device that is not there, code 55 for a configuration that is not there.
pub async fn get(definitions: &Definitions, request: &GetParametersRequest) -> Result<ParametersResponse> {
    let family = request.family();
    let names = names(family)?;
    let guest = definitions.driver().find(request.domain.as_ref())?;
    needs_groups(definitions, family)?;
    flags(request.flags, KNOWN, names.get)?;
    let published = guest.published();
    let document = reads(&published.value, request.flags, names.api_get)?;
    let running = published.value.live.as_ref().is_some_and(|l| Arc::ptr_eq(l, &document));
    let group = running.then(|| groups::of(definitions.driver(), &document));
    if let Some(group) = &group {
        needs_controller(group, family)?;
    }
    let rows = match family {
        ParameterFamily::Scheduler => {
            let unset = match &group {
                Some(group) => Unset::running(cpu::shares_of(group).unwrap_or(0)),
                None => Unset::DEFINED,
            };
            params::scheduler::get(&document, unset)
        }
        ParameterFamily::Memory => params::memory::get(&document),
        ParameterFamily::Blkio => {
            let mut shown = (*document).clone();
            if let (None, Some(group)) = (shown.blkiotune.weight, &group) {
                shown.blkiotune.weight = blkio::weight_of(group);
            }
            params::blkio::get(&shown)
        }
        ParameterFamily::Numa => params::numa::get(&document),
        ParameterFamily::Interface => {
            let at = params::interface::find(&document, &request.device)?;
            params::interface::get(&document.devices.interfaces[at].shown())
        }
        ParameterFamily::BlockIoTune => {
            if request.device.is_empty() {
                // Clients that only want to know how many there are name no disk.
                params::block::get(&IoTune::default())
            } else {
                let disk = &document.devices.disks[params::block::find(&document, &request.device)?];
                let applied = match guest.shared().answering_monitor().filter(|_| running) {
                    Some(monitor) => guest.told(throttle::get(&monitor, disk).await).await?,
                    None => None,
                };
                params::block::get(applied.as_ref().unwrap_or(&disk.iotune))
            }
        }
        ParameterFamily::Perf => params::perf::get(&document),
        ParameterFamily::Iothread => {
            params::iothread::get(params::iothread::find(&mut (*document).clone(), &request.device)?)
        }
        ParameterFamily::Unspecified => Vec::new(),
    };
    Ok(ParametersResponse { params: rows.into_iter().map(to_message).collect() })
}

/// `DomainTuningService.SetParameters`.
///
/// # Errors
/// As the family's `set`, and [`Definitions::change`].
pub async fn set(definitions: &Definitions, request: SetParametersRequest) -> Result<Empty> {
    let family = request.family();
    let names = names(family)?;
    let guest = definitions.driver().find(request.domain.as_ref())?;
    needs_groups(definitions, family)?;
    flags(request.flags, KNOWN, names.set)?;
    let params = request.params.into_iter().map(from_message).collect::<Result<Vec<_>>>()?;
    let affect = affect(&guest.published().value, request.flags)?;
    let device = request.device;
    let edit = {
        let (device, params) = (device.clone(), params.clone());
        move |d: &mut Document| set_in(d, family, &device, &params)
    };
    let change = Change { name: "parameters", completion: Completion::Keep, announce: Announce::Nothing };
    let api = names.api_set;
    let done = definitions.both(
        &guest,
        affect,
        change,
        move |w| Box::pin(set_live(w, family, api, device, params)),
        edit,
    );
    done.await?;
    Ok(Empty {})
}

async fn set_live(
    work: &mut Work,
    family: ParameterFamily,
    api: &'static str,
    device: String,
    params: Vec<Param>,
) -> Result<()> {
    needs_controller(&work.run()?.held.group, family)?;
    match family {
        ParameterFamily::BlockIoTune => throttle::set(work, device, params).await,
        ParameterFamily::Interface => limits::set(work, device, params).await,
        ParameterFamily::Scheduler => cpu::set(work, params).await,
        ParameterFamily::Memory => memtune::set(work, &params),
        ParameterFamily::Blkio => blkio::set(work, params).await,
        ParameterFamily::Iothread => iothreads::set(work, &device, &params).await,
        ParameterFamily::Numa => numa::set(work, &params),
        ParameterFamily::Perf | ParameterFamily::Unspecified => Err(live_unsupported(api)),
    }
}

fn set_in(d: &mut Document, family: ParameterFamily, device: &str, rows: &[Param]) -> Result<()> {
    match family {
        ParameterFamily::Scheduler => params::scheduler::set(d, rows),
        ParameterFamily::Memory => params::memory::set(d, rows),
        ParameterFamily::Blkio => params::blkio::set(d, rows),
        ParameterFamily::Numa => params::numa::set(d, rows),
        ParameterFamily::Interface => {
            let at = params::interface::find(d, device)?;
            params::interface::set(&mut d.devices.interfaces[at], rows)
        }
        ParameterFamily::BlockIoTune => {
            let at = params::block::find(d, device)?;
            params::block::set(&mut d.devices.disks[at].iotune, rows)
        }
        ParameterFamily::Perf => params::perf::set(d, rows),
        ParameterFamily::Iothread => params::iothread::set(params::iothread::find(d, device)?, rows),
        ParameterFamily::Unspecified => Ok(()),
    }
}

/// A parameter as a message.
pub fn to_message(param: Param) -> TypedParam {
    use typed_param::Value as V;
    let value = match param.value {
        Value::Int(v) => V::I(v),
        Value::Uint(v) => V::Ui(v),
        Value::Llong(v) => V::L(v),
        Value::Ullong(v) => V::Ul(v),
        Value::Double(v) => V::D(v),
        Value::Boolean(v) => V::B(v),
        Value::String(v) => V::S(v),
    };
    TypedParam { field: param.name, value: Some(value) }
}

fn from_message(param: TypedParam) -> Result<Param> {
    use typed_param::Value as V;
    let value = match param.value {
        Some(V::I(v)) => Value::Int(v),
        Some(V::Ui(v)) => Value::Uint(v),
        Some(V::L(v)) => Value::Llong(v),
        Some(V::Ul(v)) => Value::Ullong(v),
        Some(V::D(v)) => Value::Double(v),
        Some(V::B(v)) => Value::Boolean(v),
        Some(V::S(v)) => Value::String(v),
        None => {
            let text = format!("parameter '{}' has no value", param.field);
            return Err(Error::new(Code::InvalidArg, From::Qemu, text));
        }
    };
    Ok(Param { name: param.field, value })
}
