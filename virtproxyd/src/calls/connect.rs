//! The connection itself: authentication, open, close, features, and what the proxy knows without asking.

use virt_api::host::v1alpha1::{FeatureRequest, host_service_client::HostServiceClient as Host};
use virt_consts::VIR_CONNECT_RO;
use virt_error::{Code, Domain, Error, Result};
use virt_wire::remote::{procs, *};

use super::{Call, Ctx, calls, rpc};
use crate::refusal;
use crate::route::{Object, Route};

/// The version whose wire level we speak: 11.3.0.
const LIB_VERSION: u64 = 11_003_000;

// virDrvFeature: what the RPC layer answers itself.
const FEATURE_FD_PASSING: i32 = 8;
const FEATURE_KEEPALIVE: i32 = 10;
const FEATURE_EVENT_CALLBACK: i32 = 14;
const FEATURE_CLOSE_CALLBACK: i32 = 15;
/// Command and section of a network's update come in the public function's order: said by who reads them.
const FEATURE_NETWORK_UPDATE_ORDER: i32 = 16;

pub(super) const CALLS: &[Call] = calls! {
    now procs::AuthList => auth_list;
    now procs::AuthSaslInit => sasl_init;
    now procs::AuthSaslStart => sasl_start;
    now procs::AuthSaslStep => sasl_step;
    now procs::AuthPolkit => polkit;
    now procs::ConnectOpen => open;
    now procs::ConnectClose => close;
    ask procs::ConnectSupportsFeature => feature;
    now procs::ConnectGetType => type_name;
    now procs::ConnectGetLibVersion => lib_version;
    now procs::ConnectGetUri => uri;
    now procs::ConnectIsSecure => is_secure;
    now procs::ConnectRegisterCloseCallback => register_close;
    now procs::ConnectUnregisterCloseCallback => unregister_close;
};

/// The sockets' modes are the access rule: nothing more is asked of a client.
fn auth_list(c: &Ctx, (): ()) -> Result<AuthListRet> {
    c.link.authenticated();
    Ok(AuthListRet { types: vec![AuthType::AUTH_NONE] })
}

fn auth_failed() -> Error {
    Error::new(Code::AuthFailed, Domain::Rpc, "authentication failed")
}

fn sasl_init(_: &Ctx, (): ()) -> Result<AuthSaslInitRet> {
    Err(auth_failed())
}

fn sasl_start(_: &Ctx, _: AuthSaslStartArgs) -> Result<AuthSaslStartRet> {
    Err(auth_failed())
}

fn sasl_step(_: &Ctx, _: AuthSaslStepArgs) -> Result<AuthSaslStepRet> {
    Err(auth_failed())
}

fn polkit(_: &Ctx, (): ()) -> Result<AuthPolkitRet> {
    Err(auth_failed())
}

/// A second open fails and drops the first one, as the reference does.
fn open(c: &Ctx, a: ConnectOpenArgs) -> Result<()> {
    let Some(uri) = a.name else {
        return Err(Error::internal(Domain::Rpc, "connection not open"));
    };
    if c.link.drop_opened() {
        return Err(Error::internal(Domain::Rpc, "connection already open"));
    }
    let house = c.link.house();
    let route = Route::of(&uri, house.privileged(), |d| c.link.serves(d))?;
    c.link.set_opened(route, a.flags & VIR_CONNECT_RO != 0);
    Ok(())
}

fn close(c: &Ctx, (): ()) -> Result<()> {
    c.link.close_after_reply();
    Ok(())
}

async fn feature(c: Ctx, a: ConnectSupportsFeatureArgs) -> Result<ConnectSupportsFeatureRet> {
    let supported = match a.feature {
        FEATURE_KEEPALIVE => {
            c.link.start_keepalive();
            true
        }
        _ if !c.link.is_open() => return Err(refusal::not_open()),
        FEATURE_FD_PASSING
        | FEATURE_EVENT_CALLBACK
        | FEATURE_CLOSE_CALLBACK
        | FEATURE_NETWORK_UPDATE_ORDER => true,
        feature if c.link.route()?.daemon(Object::Domain).is_some() => {
            rpc!(c, Host.supports_feature(FeatureRequest { feature })).await?.supported
        }
        _ => false,
    };
    Ok(ConnectSupportsFeatureRet { supported: supported.into() })
}

fn type_name(c: &Ctx, (): ()) -> Result<ConnectGetTypeRet> {
    Ok(ConnectGetTypeRet { r#type: c.link.route()?.type_name().to_string() })
}

fn lib_version(_: &Ctx, (): ()) -> Result<ConnectGetLibVersionRet> {
    Ok(ConnectGetLibVersionRet { lib_ver: LIB_VERSION })
}

fn uri(c: &Ctx, (): ()) -> Result<ConnectGetUriRet> {
    Ok(ConnectGetUriRet { uri: c.link.route()?.uri.clone() })
}

/// A unix socket cannot be listened to.
fn is_secure(_: &Ctx, (): ()) -> Result<ConnectIsSecureRet> {
    Ok(ConnectIsSecureRet { secure: 1 })
}

fn register_close(c: &Ctx, (): ()) -> Result<()> {
    c.link.want_close_event(true)
}

fn unregister_close(c: &Ctx, (): ()) -> Result<()> {
    c.link.want_close_event(false)
}
