//! `DomainService`, `DomainConsoleService` and `MonitorService`: requests are passed on to the
//! functions of each concern.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use virt_api::common::v1alpha1::Ticket;
use virt_api::domain::v1alpha1::domain_console_service_server::DomainConsoleService;
use virt_api::domain::v1alpha1::domain_service_server::DomainService;
use virt_api::domain::v1alpha1::monitor_service_server::MonitorService;
use virt_api::domain::v1alpha1::*;
use virt_object::events::Journal;
use virt_rpc::descriptor::Descriptors;
use virt_rpc::{Caller, IntoStatus, answer};

use super::events::Watched;
use super::{agent, console, define, events, guest_agent, job, lifecycle, lookup, metadata};
use crate::console::What;
use crate::definitions::Definitions;
use crate::driver::Driver;

type Answer<T> = Result<Response<T>, Status>;

/// The domain services of this driver. Cheap to clone.
#[derive(Clone)]
pub struct DomainApi {
    definitions: Definitions,
    journal: Arc<Journal>,
    descriptors: Descriptors,
}

impl DomainApi {
    /// For these definitions; events come from `journal`, console ends wait in `descriptors`.
    pub fn new(definitions: Definitions, journal: Arc<Journal>, descriptors: Descriptors) -> Self {
        Self { definitions, journal, descriptors }
    }

    fn driver(&self) -> &Arc<Driver> {
        self.definitions.driver()
    }
}

fn done<T>(result: virt_error::Result<T>) -> Answer<T> {
    result.map(Response::new).status()
}

#[tonic::async_trait]
impl DomainService for DomainApi {
    type WatchStream = Watched;

    async fn define(&self, request: Request<DefineRequest>) -> Answer<DomainResponse> {
        answer(define::define(&self.definitions, request.into_inner())).await
    }

    async fn create(&self, request: Request<CreateRequest>) -> Answer<DomainResponse> {
        let session = Caller::of(&request)?.session().cloned();
        answer(lifecycle::create(&self.definitions, request.into_inner(), session)).await
    }

    async fn start(&self, request: Request<StartRequest>) -> Answer<DomainResponse> {
        let session = Caller::of(&request)?.session().cloned();
        answer(lifecycle::start(&self.definitions, request.into_inner(), session)).await
    }

    async fn undefine(&self, request: Request<UndefineRequest>) -> Answer<Empty> {
        answer(define::undefine(&self.definitions, request.into_inner())).await
    }

    async fn rename(&self, request: Request<RenameRequest>) -> Answer<DomainResponse> {
        answer(define::rename(&self.definitions, request.into_inner())).await
    }

    async fn list(&self, request: Request<ListRequest>) -> Answer<ListResponse> {
        done(lookup::list(self.driver(), request.into_inner()))
    }

    async fn get(&self, request: Request<GetRequest>) -> Answer<Domain> {
        done(lookup::get(self.driver(), request.into_inner()))
    }

    async fn get_xml(&self, request: Request<GetXmlRequest>) -> Answer<GetXmlResponse> {
        let read_only = Caller::of(&request)?.read_only();
        done(lookup::get_xml(self.driver(), request.into_inner(), read_only))
    }

    async fn get_info(&self, request: Request<DomainRequest>) -> Answer<InfoResponse> {
        done(lookup::get_info(self.driver(), request.into_inner()))
    }

    async fn get_state(&self, request: Request<DomainRequest>) -> Answer<DomainState> {
        done(lookup::get_state(self.driver(), request.into_inner()))
    }

    async fn get_control_info(&self, request: Request<DomainRequest>) -> Answer<ControlInfoResponse> {
        done(lookup::get_control_info(self.driver(), request.into_inner()))
    }

    async fn suspend(&self, request: Request<DomainRequest>) -> Answer<Empty> {
        answer(lifecycle::suspend(self.driver(), request.into_inner())).await
    }

    async fn resume(&self, request: Request<DomainRequest>) -> Answer<Empty> {
        answer(lifecycle::resume(self.driver(), request.into_inner())).await
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Answer<Empty> {
        answer(lifecycle::shutdown(self.driver(), request.into_inner())).await
    }

    async fn reboot(&self, request: Request<RebootRequest>) -> Answer<Empty> {
        answer(lifecycle::reboot(self.driver(), request.into_inner())).await
    }

    async fn reset(&self, request: Request<ResetRequest>) -> Answer<Empty> {
        answer(lifecycle::reset(self.driver(), request.into_inner())).await
    }

    async fn destroy(&self, request: Request<DestroyRequest>) -> Answer<Empty> {
        answer(lifecycle::destroy(self.driver(), request.into_inner())).await
    }

    async fn get_interface_addresses(
        &self,
        request: Request<InterfaceAddressesRequest>,
    ) -> Answer<InterfaceAddressesResponse> {
        let read_only = Caller::of(&request)?.read_only();
        answer(guest_agent::interface_addresses(self.driver(), request.into_inner(), read_only)).await
    }

    async fn wakeup(&self, request: Request<WakeupRequest>) -> Answer<Empty> {
        answer(lifecycle::wakeup(self.driver(), request.into_inner())).await
    }

    async fn core_dump(&self, request: Request<CoreDumpRequest>) -> Answer<Empty> {
        answer(job::core_dump(self.driver(), request.into_inner())).await
    }

    async fn set_autostart(&self, request: Request<SetAutostartRequest>) -> Answer<Empty> {
        answer(define::set_autostart(&self.definitions, request.into_inner(), false)).await
    }

    async fn set_autostart_once(&self, request: Request<SetAutostartRequest>) -> Answer<Empty> {
        answer(define::set_autostart(&self.definitions, request.into_inner(), true)).await
    }

    async fn get_metadata(&self, request: Request<GetMetadataRequest>) -> Answer<GetMetadataResponse> {
        done(metadata::get_metadata(&self.definitions, request.into_inner()))
    }

    async fn set_metadata(&self, request: Request<SetMetadataRequest>) -> Answer<Empty> {
        answer(metadata::set_metadata(&self.definitions, request.into_inner())).await
    }

    async fn set_lifecycle_action(&self, request: Request<SetLifecycleActionRequest>) -> Answer<Empty> {
        answer(metadata::set_lifecycle_action(&self.definitions, request.into_inner())).await
    }

    async fn get_hostname(&self, request: Request<GetHostnameRequest>) -> Answer<GetHostnameResponse> {
        answer(agent::get_hostname(self.driver(), request.into_inner())).await
    }

    async fn get_security_labels(&self, request: Request<DomainRequest>) -> Answer<SecurityLabelsResponse> {
        done(lookup::get_security_labels(self.driver(), request.into_inner()))
    }

    async fn get_messages(&self, request: Request<GetMessagesRequest>) -> Answer<GetMessagesResponse> {
        done(lookup::get_messages(self.driver(), request.into_inner()))
    }

    async fn xml_to_native(&self, request: Request<XmlToNativeRequest>) -> Answer<XmlToNativeResponse> {
        answer(define::xml_to_native(&self.definitions, request.into_inner())).await
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Watched> {
        done(events::watch(self.driver(), &self.journal, request.into_inner()))
    }
}

#[tonic::async_trait]
impl DomainConsoleService for DomainApi {
    async fn open_console(&self, request: Request<OpenConsoleRequest>) -> Answer<Ticket> {
        let caller = Caller::of(&request)?;
        answer(console::open(self.driver(), &self.descriptors, request.into_inner(), &caller, What::Console))
            .await
    }

    async fn open_channel(&self, request: Request<OpenConsoleRequest>) -> Answer<Ticket> {
        let caller = Caller::of(&request)?;
        answer(console::open(self.driver(), &self.descriptors, request.into_inner(), &caller, What::Channel))
            .await
    }

    async fn screenshot(&self, request: Request<ScreenshotRequest>) -> Answer<ScreenshotResponse> {
        let caller = Caller::of(&request)?;
        answer(console::screenshot(self.driver(), &self.descriptors, request.into_inner(), &caller)).await
    }

    async fn open_graphics(&self, request: Request<OpenGraphicsRequest>) -> Answer<Empty> {
        let caller = Caller::of(&request)?;
        answer(console::open_graphics(self.driver(), &self.descriptors, request.into_inner(), &caller)).await
    }

    async fn open_graphics_fd(&self, request: Request<OpenGraphicsRequest>) -> Answer<Ticket> {
        let caller = Caller::of(&request)?;
        answer(console::open_graphics_fd(self.driver(), &self.descriptors, request.into_inner(), &caller))
            .await
    }

    async fn send_key(&self, request: Request<SendKeyRequest>) -> Answer<Empty> {
        answer(console::send_key(self.driver(), request.into_inner())).await
    }

    async fn inject_nmi(&self, request: Request<InjectNmiRequest>) -> Answer<Empty> {
        answer(console::inject_nmi(self.driver(), request.into_inner())).await
    }
}

#[tonic::async_trait]
impl MonitorService for DomainApi {
    async fn command(&self, request: Request<MonitorCommandRequest>) -> Answer<MonitorCommandResponse> {
        answer(agent::monitor(self.driver(), request.into_inner())).await
    }
}
