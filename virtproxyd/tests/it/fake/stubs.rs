//! The fake's handlers; most methods are lacking, as in a driver that cannot do them.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use futures_util::Stream;
use tonic::{Request, Response, Status, async_trait};
use virt_api::common::v1alpha1 as common;
use virt_api::domain::v1alpha1::domain_console_service_server::DomainConsoleService;
use virt_api::domain::v1alpha1::domain_service_server::DomainService;
use virt_api::domain::v1alpha1::{self as domain, watch_response::Event};
use virt_api::host::v1alpha1 as host;
use virt_api::host::v1alpha1::host_service_server::HostService;
use virt_rpc::caller::Caller;
use virt_rpc::status::IntoStatus;

use super::{Handlers, lacking};

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl DomainService for Handlers {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<domain::WatchResponse, Status>> + Send>>;

    async fn list(&self, request: Request<domain::ListRequest>) -> Answer<domain::ListResponse> {
        let asked = request.into_inner();
        let active = |d: &domain::Domain| d.domain.as_ref().is_some_and(|d| d.id.is_some());
        let wanted = |d: &domain::Domain| match asked.filter & 3 {
            1 => active(d),
            2 => !active(d),
            _ => true,
        };
        let mut domains: Vec<_> = self.state.domains.lock().values().filter(|d| wanted(d)).cloned().collect();
        let count = domains.len() as u32;
        if asked.count_only {
            domains.clear();
        }
        Ok(Response::new(domain::ListResponse { domains, count }))
    }

    async fn get(&self, request: Request<domain::GetRequest>) -> Answer<domain::Domain> {
        self.state.gets.fetch_add(1, Ordering::Relaxed);
        if let Some(session) = Caller::of(&request)?.session() {
            let mut sessions = self.state.sessions.lock();
            if !sessions.contains(session) {
                sessions.push(session.clone());
            }
        }
        self.state.find(request.into_inner().domain).map(Response::new).status()
    }

    async fn get_xml(&self, request: Request<domain::GetXmlRequest>) -> Answer<domain::GetXmlResponse> {
        let row = self.state.find(request.into_inner().domain).status()?;
        let mut hold = self.state.hold.subscribe();
        drop(hold.wait_for(|hold| !*hold).await);
        let name = row.domain.unwrap_or_default().name;
        Ok(Response::new(domain::GetXmlResponse { xml: format!("<domain><name>{name}</name></domain>") }))
    }

    async fn get_info(&self, request: Request<domain::DomainRequest>) -> Answer<domain::InfoResponse> {
        let row = self.state.find(request.into_inner().domain).status()?;
        let state = row.state.unwrap_or_default().state;
        let (max_memory, vcpus) = (row.max_memory, row.vcpus);
        Ok(Response::new(domain::InfoResponse { state, max_memory, memory: max_memory, vcpus, cpu_time: 5 }))
    }

    async fn get_state(&self, request: Request<domain::DomainRequest>) -> Answer<domain::DomainState> {
        let row = self.state.find(request.into_inner().domain).status()?;
        Ok(Response::new(row.state.unwrap_or_default()))
    }

    async fn define(&self, request: Request<domain::DefineRequest>) -> Answer<domain::DomainResponse> {
        let xml = request.into_inner().xml;
        let name = xml.split("<name>").nth(1).and_then(|s| s.split('<').next()).unwrap_or_default();
        self.state.define(name, 99);
        let row = self
            .state
            .find(Some(domain::DomainRef { name: name.to_string(), ..Default::default() }))
            .status()?;
        Ok(Response::new(domain::DomainResponse { domain: row.domain }))
    }

    async fn start(&self, request: Request<domain::StartRequest>) -> Answer<domain::DomainResponse> {
        let row = self.state.find(request.into_inner().domain).status()?;
        let name = row.domain.unwrap_or_default().name;
        self.state.set_running(&name, Some(1));
        self.state.event(&name, Event::Lifecycle(domain::LifecycleEvent { event: 2, detail: 0 }));
        let row = self.state.find(Some(domain::DomainRef { name, ..Default::default() })).status()?;
        Ok(Response::new(domain::DomainResponse { domain: row.domain }))
    }

    async fn suspend(&self, request: Request<domain::DomainRequest>) -> Answer<domain::Empty> {
        let row = self.state.find(request.into_inner().domain).status()?;
        let name = row.domain.unwrap_or_default().name;
        self.state.event(&name, Event::Lifecycle(domain::LifecycleEvent { event: 3, detail: 0 }));
        Ok(Response::new(domain::Empty {}))
    }

    async fn get_interface_addresses(
        &self,
        _: Request<domain::InterfaceAddressesRequest>,
    ) -> Answer<domain::InterfaceAddressesResponse> {
        Err(lacking())
    }
    async fn wakeup(&self, _: Request<domain::WakeupRequest>) -> Answer<domain::Empty> {
        Err(lacking())
    }
    async fn core_dump(&self, _: Request<domain::CoreDumpRequest>) -> Answer<domain::Empty> {
        Err(lacking())
    }
    async fn destroy(&self, request: Request<domain::DestroyRequest>) -> Answer<domain::Empty> {
        let row = self.state.find(request.into_inner().domain).status()?;
        let name = row.domain.unwrap_or_default().name;
        self.state.set_running(&name, None);
        self.state.event(&name, Event::Lifecycle(domain::LifecycleEvent { event: 5, detail: 1 }));
        Ok(Response::new(domain::Empty {}))
    }

    async fn watch(&self, request: Request<domain::WatchRequest>) -> Answer<Self::WatchStream> {
        let (epoch, first, last) = {
            let journal = self.state.journal.lock();
            (journal.epoch, journal.first, journal.first + journal.events.len() as u64 - 1)
        };
        let after = match request.into_inner().after {
            None => last,
            Some(c) if c.epoch == epoch && c.number + 1 >= first => c.number,
            Some(_) => return Err(Status::out_of_range("the journal does not go back that far")),
        };
        let state = self.state.clone();
        let ready = domain::WatchResponse {
            cursor: Some(common::Cursor { epoch, number: after }),
            domain: None,
            event: Some(Event::Ready(domain::Empty {})),
        };
        let begin = (after, state.appended.subscribe(), Some(ready));
        let stream = futures_util::stream::unfold(begin, move |(after, mut appended, ready)| {
            let state = state.clone();
            async move {
                if let Some(ready) = ready {
                    return Some((Ok(ready), (after, appended, None)));
                }
                loop {
                    let next = {
                        let journal = state.journal.lock();
                        journal.events.iter().find(|e| e.cursor.is_some_and(|c| c.number > after)).cloned()
                    };
                    if let Some(next) = next {
                        let number = next.cursor.unwrap_or_default().number;
                        return Some((Ok(next), (number, appended, None)));
                    }
                    appended.changed().await.ok()?;
                }
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn create(&self, _: Request<domain::CreateRequest>) -> Answer<domain::DomainResponse> {
        Err(lacking())
    }
    async fn undefine(&self, _: Request<domain::UndefineRequest>) -> Answer<domain::Empty> {
        Err(lacking())
    }
    async fn rename(&self, _: Request<domain::RenameRequest>) -> Answer<domain::DomainResponse> {
        Err(lacking())
    }
    async fn get_control_info(
        &self,
        _: Request<domain::DomainRequest>,
    ) -> Answer<domain::ControlInfoResponse> {
        Err(lacking())
    }
    async fn resume(&self, _: Request<domain::DomainRequest>) -> Answer<domain::Empty> {
        Err(lacking())
    }
    async fn shutdown(&self, _: Request<domain::ShutdownRequest>) -> Answer<domain::Empty> {
        Err(lacking())
    }
    async fn reboot(&self, _: Request<domain::RebootRequest>) -> Answer<domain::Empty> {
        Err(lacking())
    }
    async fn reset(&self, _: Request<domain::ResetRequest>) -> Answer<domain::Empty> {
        Err(lacking())
    }
    async fn set_autostart(&self, _: Request<domain::SetAutostartRequest>) -> Answer<domain::Empty> {
        Err(lacking())
    }
    async fn set_autostart_once(&self, _: Request<domain::SetAutostartRequest>) -> Answer<domain::Empty> {
        Err(lacking())
    }
    async fn get_metadata(
        &self,
        _: Request<domain::GetMetadataRequest>,
    ) -> Answer<domain::GetMetadataResponse> {
        Err(lacking())
    }
    async fn set_metadata(&self, _: Request<domain::SetMetadataRequest>) -> Answer<domain::Empty> {
        Err(lacking())
    }
    async fn set_lifecycle_action(
        &self,
        _: Request<domain::SetLifecycleActionRequest>,
    ) -> Answer<domain::Empty> {
        Err(lacking())
    }
    async fn get_hostname(
        &self,
        _: Request<domain::GetHostnameRequest>,
    ) -> Answer<domain::GetHostnameResponse> {
        Err(lacking())
    }
    async fn get_security_labels(
        &self,
        _: Request<domain::DomainRequest>,
    ) -> Answer<domain::SecurityLabelsResponse> {
        Err(lacking())
    }
    async fn get_messages(
        &self,
        _: Request<domain::GetMessagesRequest>,
    ) -> Answer<domain::GetMessagesResponse> {
        Err(lacking())
    }
    async fn xml_to_native(
        &self,
        _: Request<domain::XmlToNativeRequest>,
    ) -> Answer<domain::XmlToNativeResponse> {
        Err(lacking())
    }
}

#[async_trait]
impl DomainConsoleService for Handlers {
    async fn open_console(&self, request: Request<domain::OpenConsoleRequest>) -> Answer<common::Ticket> {
        let caller = Caller::of(&request)?;
        self.state.find(request.into_inner().domain).status()?;
        let (ours, theirs) = UnixStream::pair()?;
        *self.state.console.lock() = Some(ours);
        let token = self.descriptors.park(vec![theirs.into()], &caller).status()?;
        Ok(Response::new(common::Ticket { token }))
    }

    async fn screenshot(
        &self,
        request: Request<domain::ScreenshotRequest>,
    ) -> Answer<domain::ScreenshotResponse> {
        let caller = Caller::of(&request)?;
        let mut file = tempfile::tempfile()?;
        std::io::Write::write_all(&mut file, &vec![7; 600_000])?;
        std::io::Seek::rewind(&mut file)?;
        let token = self.descriptors.park(vec![OwnedFd::from(file)], &caller).status()?;
        let (ticket, mime) = (Some(common::Ticket { token }), "image/x-portable-pixmap".to_string());
        Ok(Response::new(domain::ScreenshotResponse { ticket, mime }))
    }

    async fn open_channel(&self, _: Request<domain::OpenConsoleRequest>) -> Answer<common::Ticket> {
        Err(lacking())
    }
    async fn open_graphics(&self, _: Request<domain::OpenGraphicsRequest>) -> Answer<domain::Empty> {
        Err(lacking())
    }
    async fn open_graphics_fd(&self, _: Request<domain::OpenGraphicsRequest>) -> Answer<common::Ticket> {
        Err(lacking())
    }
    async fn send_key(&self, _: Request<domain::SendKeyRequest>) -> Answer<domain::Empty> {
        Err(lacking())
    }
    async fn inject_nmi(&self, _: Request<domain::InjectNmiRequest>) -> Answer<domain::Empty> {
        Err(lacking())
    }
}

#[async_trait]
impl HostService for Handlers {
    async fn get_version(&self, _: Request<host::Empty>) -> Answer<host::VersionResponse> {
        let (r#type, daemon) = ("QEMU".to_string(), "0".to_string());
        Ok(Response::new(host::VersionResponse { r#type, hypervisor: 10_000_002, daemon }))
    }

    async fn get_hostname(&self, _: Request<host::Empty>) -> Answer<host::HostnameResponse> {
        Ok(Response::new(host::HostnameResponse { hostname: "fake.example".to_string() }))
    }

    async fn supports_feature(
        &self,
        request: Request<host::FeatureRequest>,
    ) -> Answer<host::FeatureResponse> {
        Ok(Response::new(host::FeatureResponse { supported: request.into_inner().feature == 6 }))
    }

    async fn get_capabilities(&self, _: Request<host::Empty>) -> Answer<host::XmlResponse> {
        Err(lacking())
    }
    async fn get_domain_capabilities(
        &self,
        _: Request<host::DomainCapabilitiesRequest>,
    ) -> Answer<host::XmlResponse> {
        Err(lacking())
    }
    async fn get_node_info(&self, _: Request<host::Empty>) -> Answer<host::NodeInfoResponse> {
        Err(lacking())
    }
    async fn get_max_vcpus(&self, _: Request<host::MaxVcpusRequest>) -> Answer<host::MaxVcpusResponse> {
        Err(lacking())
    }
    async fn get_sysinfo(&self, _: Request<host::FlagsRequest>) -> Answer<host::XmlResponse> {
        Err(lacking())
    }
    async fn get_cpu_map(&self, _: Request<host::FlagsRequest>) -> Answer<host::CpuMapResponse> {
        Err(lacking())
    }
    async fn get_cpu_stats(&self, _: Request<host::NodeStatsRequest>) -> Answer<host::NodeStatsResponse> {
        Err(lacking())
    }
    async fn get_memory_stats(&self, _: Request<host::NodeStatsRequest>) -> Answer<host::NodeStatsResponse> {
        Err(lacking())
    }
    async fn get_free_memory(&self, _: Request<host::Empty>) -> Answer<host::FreeMemoryResponse> {
        Err(lacking())
    }
    async fn get_cells_free_memory(
        &self,
        _: Request<host::CellsFreeMemoryRequest>,
    ) -> Answer<host::CellsFreeMemoryResponse> {
        Err(lacking())
    }
    async fn get_free_pages(&self, _: Request<host::FreePagesRequest>) -> Answer<host::FreePagesResponse> {
        Err(lacking())
    }
    async fn get_memory_parameters(
        &self,
        _: Request<host::FlagsRequest>,
    ) -> Answer<host::ParametersResponse> {
        Err(lacking())
    }
    async fn set_memory_parameters(
        &self,
        _: Request<host::SetMemoryParametersRequest>,
    ) -> Answer<host::Empty> {
        Err(lacking())
    }
    async fn get_security_model(&self, _: Request<host::Empty>) -> Answer<host::SecurityModelResponse> {
        Err(lacking())
    }
    async fn get_cpu_models(&self, _: Request<host::CpuModelsRequest>) -> Answer<host::CpuModelsResponse> {
        Err(lacking())
    }
    async fn compare_cpu(&self, _: Request<host::CompareCpuRequest>) -> Answer<host::CompareCpuResponse> {
        Err(lacking())
    }
    async fn baseline_cpu(&self, _: Request<host::BaselineCpuRequest>) -> Answer<host::XmlResponse> {
        Err(lacking())
    }
    async fn get_sev_info(&self, _: Request<host::FlagsRequest>) -> Answer<host::ParametersResponse> {
        Err(lacking())
    }
}
