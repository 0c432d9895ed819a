//! `InterfaceService`: check, convert, ask, convert.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use virt_api::interface::v1alpha1::interface_service_server::InterfaceService;
use virt_api::interface::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain, Error, Result};
use virt_host::schema::{self, Schema};
use virt_rpc::{answer, check};

use crate::driver::{Driver, Row};
use crate::transaction;

type Answer<T> = Result<Response<T>, Status>;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct InterfaceApi {
    driver: Arc<Driver>,
}

impl InterfaceApi {
    /// For this driver's interfaces.
    pub fn new(driver: Arc<Driver>) -> Self {
        Self { driver }
    }
}

/// Refuses flag bits outside `known`.
fn flags(given: u32, known: u32, function: &'static str) -> Result<()> {
    check::flags(Domain::Interface, given, known, function)
}

fn wire(row: Row) -> Interface {
    Interface { name: row.name, mac: row.mac.map(|m| m.to_string()).unwrap_or_default(), active: row.active }
}

fn one(row: Row) -> InterfaceResponse {
    InterfaceResponse { interfaces: vec![wire(row)] }
}

#[tonic::async_trait]
impl InterfaceService for InterfaceApi {
    async fn define(&self, request: Request<DefineRequest>) -> Answer<InterfaceResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, VIR_INTERFACE_DEFINE_VALIDATE, "interfaceDefineXML")?;
            let asked = request.flags & VIR_INTERFACE_DEFINE_VALIDATE != 0;
            schema::check(asked, Schema::Interface, Domain::Interface, &request.xml).await?;
            Ok(one(self.driver.define(request.xml).await?))
        })
        .await
    }

    async fn undefine(&self, request: Request<InterfaceRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async { self.driver.undefine(request.name).await.map(|()| Empty {}) }).await
    }

    async fn start(&self, request: Request<ChangeStateRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "interfaceCreate")?;
            self.driver.start(request.name).await.map(|()| Empty {})
        })
        .await
    }

    async fn destroy(&self, request: Request<ChangeStateRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "interfaceDestroy")?;
            self.driver.destroy(request.name).await.map(|()| Empty {})
        })
        .await
    }

    async fn list(&self, request: Request<ListRequest>) -> Answer<ListResponse> {
        let request = request.into_inner();
        answer(async {
            let (active, inactive) =
                (VIR_CONNECT_LIST_INTERFACES_ACTIVE, VIR_CONNECT_LIST_INTERFACES_INACTIVE);
            flags(request.filter, active | inactive, "interfaceConnectListAllInterfaces")?;
            let wanted = |r: &Row| {
                request.filter == 0 || request.filter & if r.active { active } else { inactive } != 0
            };
            let mut rows: Vec<Row> = self.driver.rows().await?.into_iter().filter(wanted).collect();
            let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            if request.count_only {
                rows.clear();
            }
            Ok(ListResponse { interfaces: rows.into_iter().map(wire).collect(), count })
        })
        .await
    }

    async fn get(&self, request: Request<GetRequest>) -> Answer<InterfaceResponse> {
        let request = request.into_inner();
        answer(async {
            match request.by {
                Some(get_request::By::Name(name)) => Ok(one(self.driver.by_name(&name).await?)),
                Some(get_request::By::Mac(mac)) => Ok(one(self.driver.by_mac(&mac).await?)),
                None => Err(Error::new(Code::InvalidArg, Domain::Interface, "no interface is named")),
            }
        })
        .await
    }

    async fn get_xml(&self, request: Request<GetXmlRequest>) -> Answer<GetXmlResponse> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, VIR_INTERFACE_XML_INACTIVE, "interfaceGetXMLDesc")?;
            let inactive = request.flags & VIR_INTERFACE_XML_INACTIVE != 0;
            Ok(GetXmlResponse { xml: self.driver.document(&request.name, inactive).await?.format() })
        })
        .await
    }

    async fn change_begin(&self, request: Request<ChangeRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "interfaceChangeBegin")?;
            transaction::begin(&self.driver).await.map(|()| Empty {})
        })
        .await
    }

    async fn change_commit(&self, request: Request<ChangeRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "interfaceChangeCommit")?;
            transaction::commit(&self.driver).await.map(|()| Empty {})
        })
        .await
    }

    async fn change_rollback(&self, request: Request<ChangeRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        answer(async {
            flags(request.flags, 0, "interfaceChangeRollback")?;
            transaction::rollback(&self.driver).await.map(|()| Empty {})
        })
        .await
    }
}
