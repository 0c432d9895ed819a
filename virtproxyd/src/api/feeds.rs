//! The feeds of events that daemons offer.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tonic::{Response, Status, Streaming};
use virt_api::common::v1alpha1::Cursor;
use virt_api::domain::v1alpha1::domain_service_client::DomainServiceClient;
use virt_api::network::v1alpha1::network_service_client::NetworkServiceClient;
use virt_api::secret::v1alpha1::secret_service_client::SecretServiceClient;
use virt_api::storage::v1alpha1::storage_pool_service_client::StoragePoolServiceClient;
use virt_rpc::client::ClientSession;
use virt_wire::frame::OutFrame;

use super::watch::Feed;
use crate::events::{Registration, objects, translate};
use crate::route::Object;

/// One row a kind: its package, the object that names its daemon, its client, and what makes messages of its events.
macro_rules! feeds {
    ($($package:ident, $object:ident, $client:ident, $messages:path;)*) => {$(
        impl Feed for virt_api::$package::v1alpha1::WatchResponse {
            const OBJECT: Object = Object::$object;

            fn open(
                session: Arc<ClientSession>,
                after: Option<Cursor>,
            ) -> BoxFuture<'static, Result<Response<Streaming<Self>>, Status>> {
                Box::pin(async move {
                    let request = virt_api::$package::v1alpha1::WatchRequest { after, ..Default::default() };
                    let request = session.request(request);
                    let mut client = virt_rpc::client!($client, session.daemon());
                    client.watch(request).await
                })
            }

            fn messages(&self, registered: &[Registration]) -> Vec<OutFrame> {
                $messages(self, registered)
            }
        }
    )*};
}

feeds! {
    domain, Domain, DomainServiceClient, translate::messages;
    network, Network, NetworkServiceClient, objects::network;
    secret, Secret, SecretServiceClient, objects::secret;
    storage, Storage, StoragePoolServiceClient, objects::pool;
}
