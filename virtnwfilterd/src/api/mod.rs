//! `NwfilterService`: check, convert, ask, convert.

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Request, Response, Status};
use virt_api::nwfilter::v1alpha1::nwfilter_service_server::NwfilterService;
use virt_api::nwfilter::v1alpha1::*;
use virt_consts::{VIR_NWFILTER_BINDING_CREATE_VALIDATE, VIR_NWFILTER_DEFINE_VALIDATE};
use virt_error::{Code, Domain, Error, Result};
use virt_host::schema::{self, Schema};
use virt_rpc::{answer, check};

use crate::driver::{Bound, Driver, Filter};
use crate::{bindings, definitions};

type Answer<T> = Result<Response<T>, Status>;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct NwfilterApi {
    driver: Arc<Driver>,
}

impl NwfilterApi {
    /// For this driver's filters.
    pub fn new(driver: Arc<Driver>) -> Self {
        Self { driver }
    }

    fn find(&self, wanted: Option<FilterRef>) -> Result<Arc<Filter>> {
        let none = || Error::new(Code::InvalidArg, Domain::Nwfilter, "no filter is named");
        let wanted = wanted.ok_or_else(none)?;
        self.driver.find(&wanted.uuid, &wanted.name)
    }
}

/// Refuses flag bits outside `known`.
fn flags(given: u32, known: u32, function: &'static str) -> Result<()> {
    check::flags(Domain::Nwfilter, given, known, function)
}

/// Holds a document against its schema if the flags ask for it.
async fn validate(asked: bool, schema: Schema, xml: &str) -> Result<()> {
    schema::check(asked, schema, Domain::Nwfilter, xml).await
}

fn reference(filter: &Filter) -> FilterRef {
    let name = filter.document.load().value.name.clone();
    FilterRef { uuid: Bytes::copy_from_slice(filter.uuid.as_bytes()), name }
}

fn one(filter: &Filter) -> FilterResponse {
    FilterResponse { filter: Some(reference(filter)) }
}

fn wire(bound: &Bound) -> Binding {
    Binding { port_dev: bound.binding.port.clone(), filter: bound.binding.filter.filter.clone() }
}

#[tonic::async_trait]
impl NwfilterService for NwfilterApi {
    async fn define(&self, request: Request<DefineRequest>) -> Answer<FilterResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, VIR_NWFILTER_DEFINE_VALIDATE, "nwfilterDefineXMLFlags")?;
            let asked = request.flags & VIR_NWFILTER_DEFINE_VALIDATE != 0;
            validate(asked, Schema::Nwfilter, &request.xml).await?;
            Ok(one(&*definitions::define(&self.driver, request.xml).await?))
        })
        .await
    }

    async fn undefine(&self, request: Request<FilterRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            let filter = self.find(request.filter)?;
            definitions::undefine(&self.driver, filter).await.map(|()| Empty {})
        })
        .await
    }

    async fn list(&self, request: Request<ListRequest>) -> Answer<ListResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "nwfilterConnectListAllNWFilters")?;
            let all = self.driver.filters.list();
            let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
            let shown = if request.count_only { 0 } else { all.len() };
            Ok(ListResponse { filters: all.iter().take(shown).map(|f| reference(f)).collect(), count })
        })
        .await
    }

    async fn get(&self, request: Request<FilterRequest>) -> Answer<FilterResponse> {
        let request = request.into_inner();
        answer(async { Ok(one(&*self.find(request.filter)?)) }).await
    }

    async fn get_xml(&self, request: Request<GetXmlRequest>) -> Answer<GetXmlResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "nwfilterGetXMLDesc")?;
            let document = self.find(request.filter)?.document.load();
            Ok(GetXmlResponse { xml: document.value.format() })
        })
        .await
    }

    async fn create_binding(&self, request: Request<CreateBindingRequest>) -> Answer<Binding> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, VIR_NWFILTER_BINDING_CREATE_VALIDATE, "nwfilterBindingCreateXML")?;
            let asked = request.flags & VIR_NWFILTER_BINDING_CREATE_VALIDATE != 0;
            validate(asked, Schema::NwfilterBinding, &request.xml).await?;
            Ok(wire(&bindings::create(&self.driver, request.xml).await?))
        })
        .await
    }

    async fn delete_binding(&self, request: Request<BindingRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async { bindings::delete(&self.driver, request.port_dev).await.map(|()| Empty {}) }).await
    }

    async fn list_bindings(&self, request: Request<ListBindingsRequest>) -> Answer<ListBindingsResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "nwfilterConnectListAllNWFilterBindings")?;
            let all = self.driver.bindings.load();
            let count = u32::try_from(all.value.len()).unwrap_or(u32::MAX);
            let shown = if request.count_only { 0 } else { all.value.len() };
            Ok(ListBindingsResponse { bindings: all.value.values().take(shown).map(wire).collect(), count })
        })
        .await
    }

    async fn get_binding(&self, request: Request<BindingRequest>) -> Answer<Binding> {
        let request = request.into_inner();
        answer(async { Ok(wire(&self.driver.binding(&request.port_dev)?)) }).await
    }

    async fn get_binding_xml(&self, request: Request<GetBindingXmlRequest>) -> Answer<GetXmlResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "nwfilterBindingGetXMLDesc")?;
            Ok(GetXmlResponse { xml: self.driver.binding(&request.port_dev)?.binding.format() })
        })
        .await
    }
}
