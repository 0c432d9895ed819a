//! Guests saved into files of the host, and brought back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tonic::{Request, Response, Status};
use virt_api::domain::v1alpha1::domain_save_service_server::DomainSaveService;
use virt_api::domain::v1alpha1::*;
use virt_consts::*;
use virt_error::{Code, Domain as From, Error, Result};
use virt_model::Mode;
use virt_model::domain::Domain as Document;
use virt_object::owner::{Class, Spec};
use virt_rpc::answer;

use super::check::flags;
use super::lifecycle::start_as_transient;
use crate::definitions::Definitions;
use crate::guest::save::{self, KEPT};
use crate::guest::start::{Saved, Start};
use crate::guest::{Cache, managed, not_running};
use crate::process::ended::blocking;

/// Answers [`DomainSaveService`].
#[derive(Clone)]
pub struct SaveApi {
    definitions: Definitions,
}

/// Whether the guest shall run afterwards, when the caller says.
fn resume(given: u32, function: &'static str) -> Result<Option<bool>> {
    match (given & VIR_DOMAIN_SAVE_RUNNING != 0, given & VIR_DOMAIN_SAVE_PAUSED != 0) {
        (true, true) => {
            let text = "Flags 'VIR_DOMAIN_SAVE_RUNNING' and 'VIR_DOMAIN_SAVE_PAUSED' are mutually exclusive";
            Err(Error::invalid_arg(From::Domain, function, "flags", text))
        }
        (running, paused) => Ok((running || paused).then_some(running)),
    }
}

/// Whether the host's cache is to be left to others.
fn cache(given: u32) -> Cache {
    Cache::bypassed(given & VIR_DOMAIN_SAVE_BYPASS_CACHE != 0)
}

fn absolute(path: &str, what: &str) -> Result<PathBuf> {
    match Path::new(path).is_absolute() {
        true => Ok(PathBuf::from(path)),
        false => {
            let text = format!("could not build absolute {what} path from '{path}'");
            Err(Error::new(Code::InvalidArg, From::Qemu, text))
        }
    }
}

impl SaveApi {
    /// A service for these guests.
    pub fn new(definitions: Definitions) -> Self {
        Self { definitions }
    }

    /// A document in place of `old`, made whole; the guest must not see other hardware.
    async fn instead(&self, xml: String, old: Arc<Document>) -> Result<Document> {
        let reader = self.definitions.clone();
        let document = blocking(move || reader.prepare(&xml)).await??;
        old.check_stability(&document)?;
        Ok(document)
    }

    async fn save(&self, r: SaveRequest) -> Result<Empty> {
        let known = VIR_DOMAIN_SAVE_BYPASS_CACHE | VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED;
        flags(r.flags, known, "qemuDomainSaveFlags")?;
        let resume = resume(r.flags, "virDomainSaveFlags")?;
        let cache = cache(r.flags);
        let to = absolute(&r.to, "file")?;
        let guest = self.definitions.driver().find(r.domain.as_ref())?;
        let published = guest.published();
        let Some(live) = published.value.live.clone() else { return Err(not_running()) };
        let document = match r.xml {
            None => None,
            Some(xml) => Some(self.instead(xml, Arc::new(save::kept(&live, None))).await?.format(KEPT)),
        };
        let spec = Spec::new("save", Class::Modify);
        guest
            .work(spec, move |work| {
                Box::pin(async move { Box::pin(work.save(to, document, resume, cache)).await })
            })
            .await?;
        Ok(Empty {})
    }

    async fn restore(&self, r: RestoreRequest) -> Result<Empty> {
        let known = VIR_DOMAIN_SAVE_BYPASS_CACHE
            | VIR_DOMAIN_SAVE_RUNNING
            | VIR_DOMAIN_SAVE_PAUSED
            | VIR_DOMAIN_SAVE_RESET_NVRAM;
        flags(r.flags, known, "qemuDomainRestoreInternal")?;
        let resume = resume(r.flags, "virDomainRestoreFlags")?;
        let from = absolute(&r.from, "file")?;
        let (reader, override_xml) = (self.definitions.clone(), r.xml);
        let (file, image, own) = blocking(move || {
            let (file, image) = save::read(&from, false)?;
            let own = reader.prepare(&image.xml)?;
            Ok::<_, Error>((file, image, own))
        })
        .await??;
        let own = Arc::new(own);
        let document = match override_xml {
            Some(xml) => Arc::new(self.instead(xml, own).await?),
            None => own,
        };
        let driver = self.definitions.driver();
        let running = document.uuid.and_then(|u| driver.guests.by_uuid(&u));
        if running.is_some_and(|g| g.published().value.is_active()) {
            let text = format!("domain '{}' is already active", document.name.as_deref().unwrap_or_default());
            return Err(Error::new(Code::OperationInvalid, From::Domain, text));
        }
        let how = Start {
            paused: !resume.unwrap_or(image.header.was_running),
            reset_nvram: r.flags & VIR_DOMAIN_SAVE_RESET_NVRAM != 0,
            bypass_cache: r.flags & VIR_DOMAIN_SAVE_BYPASS_CACHE != 0,
        };
        let packing = image.header.packing;
        let own = file.try_clone();
        let own = own.map_err(|e| Error::system(From::Qemu, "cannot duplicate a descriptor", e))?;
        let data = blocking(move || save::data(file, packing)).await??;
        let saved = Saved { data, file: own, cpu: image.cookie.and_then(|c| c.cpu) };
        start_as_transient(driver, document, how, Some(saved)).await?;
        Ok(Empty {})
    }

    async fn image_xml(&self, r: GetImageXmlRequest) -> Result<GetImageXmlResponse> {
        flags(r.flags, ALL_DOMAIN_SAVE_IMAGE_XML_FLAGS, "qemuDomainSaveImageGetXMLDesc")?;
        self.xml_in(absolute(&r.file, "file")?, r.flags).await
    }

    async fn xml_in(&self, file: PathBuf, flags: u32) -> Result<GetImageXmlResponse> {
        let reader = self.definitions.clone();
        let document = blocking(move || {
            let (_, image) = save::read(&file, false)?;
            reader.prepare(&image.xml)
        })
        .await??;
        let secure = flags & VIR_DOMAIN_SAVE_IMAGE_XML_SECURE != 0;
        Ok(GetImageXmlResponse { xml: document.format(Mode { secure, ..KEPT }) })
    }

    async fn define_image_xml(&self, r: DefineImageXmlRequest) -> Result<Empty> {
        flags(r.flags, VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED, "qemuDomainSaveImageDefineXML")?;
        let resume = resume(r.flags, "virDomainSaveImageDefineXML")?;
        self.replace_xml_in(absolute(&r.file, "file")?, r.xml, resume).await
    }

    async fn replace_xml_in(&self, path: PathBuf, xml: String, resume: Option<bool>) -> Result<Empty> {
        let reader = self.definitions.clone();
        blocking(move || {
            let (file, mut image) = save::read(&path, true)?;
            let old = reader.prepare(&image.xml)?;
            let new = reader.prepare(&xml)?;
            old.check_stability(&new)?;
            let text = new.format(KEPT);
            let running = resume.unwrap_or(image.header.was_running);
            if text == image.xml && running == image.header.was_running {
                return Ok(());
            }
            image.xml = text;
            image.header.was_running = running;
            save::rewrite(&path, &file, &image)
        })
        .await??;
        Ok(Empty {})
    }

    async fn managed_save(&self, r: ManagedSaveRequest) -> Result<Empty> {
        let known = VIR_DOMAIN_SAVE_BYPASS_CACHE | VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED;
        flags(r.flags, known, "qemuDomainManagedSave")?;
        let resume = resume(r.flags, "virDomainManagedSave")?;
        let cache = cache(r.flags);
        let guest = self.definitions.driver().find(r.domain.as_ref())?;
        let spec = Spec::new("managed save", Class::Modify);
        guest
            .work(spec, move |work| Box::pin(async move { Box::pin(work.managed_save(resume, cache)).await }))
            .await?;
        Ok(Empty {})
    }

    async fn remove_managed_save(&self, r: ManagedSaveRequest) -> Result<Empty> {
        flags(r.flags, 0, "qemuDomainManagedSaveRemove")?;
        let guest = self.definitions.driver().find(r.domain.as_ref())?;
        let spec = Spec::new("removal of a managed save", Class::Modify);
        guest.work(spec, |work| Box::pin(work.remove_managed_save())).await?;
        Ok(Empty {})
    }

    /// The file of a guest that has one.
    fn managed(&self, domain: Option<&DomainRef>) -> Result<PathBuf> {
        let driver = self.definitions.driver();
        let now = driver.find(domain)?.published();
        match now.value.managed_save {
            true => Ok(managed::path(&driver.folders, &now.value.name)),
            false => Err(managed::none()),
        }
    }

    async fn managed_xml(&self, r: GetManagedXmlRequest) -> Result<GetImageXmlResponse> {
        flags(r.flags, ALL_DOMAIN_SAVE_IMAGE_XML_FLAGS, "qemuDomainManagedSaveGetXMLDesc")?;
        self.xml_in(self.managed(r.domain.as_ref())?, r.flags).await
    }

    async fn define_managed_xml(&self, r: DefineManagedXmlRequest) -> Result<Empty> {
        flags(r.flags, VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED, "qemuDomainManagedSaveDefineXML")?;
        let resume = resume(r.flags, "virDomainManagedSaveDefineXML")?;
        self.replace_xml_in(self.managed(r.domain.as_ref())?, r.xml, resume).await
    }
}

#[tonic::async_trait]
impl DomainSaveService for SaveApi {
    async fn managed_save(&self, request: Request<ManagedSaveRequest>) -> Result<Response<Empty>, Status> {
        answer(self.managed_save(request.into_inner())).await
    }

    async fn remove_managed_save(
        &self,
        request: Request<ManagedSaveRequest>,
    ) -> Result<Response<Empty>, Status> {
        answer(self.remove_managed_save(request.into_inner())).await
    }

    async fn get_managed_xml(
        &self,
        request: Request<GetManagedXmlRequest>,
    ) -> Result<Response<GetImageXmlResponse>, Status> {
        answer(self.managed_xml(request.into_inner())).await
    }

    async fn define_managed_xml(
        &self,
        request: Request<DefineManagedXmlRequest>,
    ) -> Result<Response<Empty>, Status> {
        answer(self.define_managed_xml(request.into_inner())).await
    }

    async fn save(&self, request: Request<SaveRequest>) -> Result<Response<Empty>, Status> {
        answer(self.save(request.into_inner())).await
    }

    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<Empty>, Status> {
        answer(self.restore(request.into_inner())).await
    }

    async fn get_image_xml(
        &self,
        request: Request<GetImageXmlRequest>,
    ) -> Result<Response<GetImageXmlResponse>, Status> {
        answer(self.image_xml(request.into_inner())).await
    }

    async fn define_image_xml(
        &self,
        request: Request<DefineImageXmlRequest>,
    ) -> Result<Response<Empty>, Status> {
        answer(self.define_image_xml(request.into_inner())).await
    }
}
