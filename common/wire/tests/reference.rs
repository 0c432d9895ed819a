//! The client against a running libvirt daemon, where one listens on the usual socket.

use bytes::Bytes;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use virt_error::{Code, Domain};
use virt_wire::Procedure;
use virt_wire::client::{Client, StreamPart};
use virt_wire::frame::{Frame, STREAM_CHUNK, error_to_wire};
use virt_wire::remote::{self, events, procs};
use virt_wire::xdr::{self, XdrError};

/// The daemon under test: `VIRT_REFERENCE_SOCKET` names another socket, `VIRT_REFERENCE_INSTANCE=session` says that it
/// is a user's daemon.
fn socket() -> PathBuf {
    std::env::var_os("VIRT_REFERENCE_SOCKET")
        .map_or_else(|| "/run/libvirt/libvirt-sock".into(), PathBuf::from)
}

fn uri(driver: &str) -> String {
    let instance = std::env::var("VIRT_REFERENCE_INSTANCE").unwrap_or_else(|_| "system".to_owned());
    format!("{driver}:///{instance}")
}

/// A connection, or a note that the test was skipped.
async fn connect(uri: &str) -> Option<Client> {
    let socket = socket();
    if !socket.exists() {
        eprintln!("skipped: nothing listens on {}", socket.display());
        return None;
    }
    let opened = async {
        let client = Client::connect_unix(&socket).await?;
        client.authenticate().await?;
        client.open(uri, false).await?;
        Ok::<_, virt_error::Error>(client)
    };
    opened.await.inspect_err(|e| eprintln!("skipped: {e:?}")).ok()
}

fn unique(name: &str) -> String {
    format!("virt-wire-{name}-{}", std::process::id())
}

fn domain_xml(name: &str) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>\
         <os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"
    )
}

fn list_args() -> remote::ConnectListAllDomainsArgs {
    remote::ConnectListAllDomainsArgs { need_results: 1, flags: 3 }
}

#[tokio::test]
async fn opens_lists_defines_and_undefines() {
    let Some(client) = connect(&uri("qemu")).await else { return };
    let name = unique("define");
    let mut received = client.events();
    let register = remote::ConnectDomainEventCallbackRegisterAnyArgs { event_id: 0, dom: None };
    let id =
        client.call::<procs::ConnectDomainEventCallbackRegisterAny>(&register).await.unwrap().callback_id;

    let define = remote::DomainDefineXmlArgs { xml: domain_xml(&name) };
    let dom = client.call::<procs::DomainDefineXml>(&define).await.unwrap().dom;
    assert_eq!((dom.name.as_str(), dom.id), (name.as_str(), -1));
    let listed = client.call::<procs::ConnectListAllDomains>(&list_args()).await.unwrap();
    assert!(listed.domains.contains(&dom));
    let look_up = remote::DomainLookupByNameArgs { name: name.clone() };
    assert_eq!(client.call::<procs::DomainLookupByName>(&look_up).await.unwrap().dom, dom);
    let undefine = remote::DomainUndefineFlagsArgs { dom: dom.clone(), flags: 0 };
    client.call::<procs::DomainUndefineFlags>(&undefine).await.unwrap();

    // Defined, then undefined; other tests' guests may come between.
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let frame: Frame = received.recv().await.unwrap();
        let msg = frame.event::<events::DomainEventCallbackLifecycle>().unwrap().unwrap();
        assert_eq!(msg.callback_id, id);
        if msg.msg.dom.name == name {
            seen.push(msg.msg.event);
        }
    }
    assert_eq!(seen, [0, 1]);

    let missing = client.call::<procs::DomainLookupByName>(&look_up).await.unwrap_err();
    assert_eq!((missing.code(), missing.domain()), (Code::NoDomain, Domain::Qemu));
    assert_eq!(missing.message(), format!("Domain not found: no domain with matching name '{name}'"));
    assert_eq!(missing.context(), [], "str1 and str2 give the reference's whole message");
    client.close().await.unwrap();
}

#[tokio::test]
async fn many_calls_are_under_way_at_once() {
    let Some(client) = connect(&uri("qemu")).await else { return };
    let calls = (0..100).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.call::<procs::ConnectGetLibVersion>(&()).await })
    });
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().lib_ver, 11_003_000);
    }
}

#[tokio::test]
async fn wrong_payloads_and_numbers_keep_the_link_open() {
    let Some(client) = connect("test:///default").await else { return };
    let prog = remote::PROGRAM.number;
    let rpc = |e: virt_error::Error| {
        assert_eq!((e.code(), e.domain()), (Code::Rpc, Domain::Rpc), "{e:?}");
        e.message()
    };
    let unknown = client.call_raw(prog, 1, 9999, Bytes::new()).await.unwrap_err();
    assert_eq!(rpc(unknown), "unknown procedure: 9999");
    let cut = client.call_raw(prog, 1, 23, Bytes::from_static(&[0, 0, 0, 9, 65])).await.unwrap_err();
    assert_eq!(rpc(cut), "Unable to decode message payload");
    client.call::<procs::ConnectGetLibVersion>(&()).await.unwrap();
}

#[tokio::test]
async fn a_volume_goes_up_and_comes_back() {
    let Some(client) = connect(&uri("storage")).await else { return };
    let folder = tempfile::tempdir().unwrap();
    // The daemon may run as another user.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let name = unique("pool");
    let xml = format!(
        "<pool type='dir'><name>{name}</name><target><path>{}</path></target></pool>",
        folder.path().display()
    );
    let create = remote::StoragePoolCreateXmlArgs { xml, flags: 0 };
    let pool = client.call::<procs::StoragePoolCreateXml>(&create).await.unwrap().pool;
    let size = 3 * STREAM_CHUNK + 17;
    let xml = format!("<volume><name>v</name><capacity unit='bytes'>{size}</capacity></volume>");
    let create = remote::StorageVolCreateXmlArgs { pool: pool.clone(), xml, flags: 0 };
    let vol = client.call::<procs::StorageVolCreateXml>(&create).await.unwrap().vol;

    let data: Bytes = (0..size).map(|i| (i * 7 % 251) as u8).collect();
    let args = remote::StorageVolUploadArgs { vol: vol.clone(), offset: 0, length: 0, flags: 0 };
    let ((), mut up) = client.open_stream::<procs::StorageVolUpload>(&args).await.unwrap();
    up.send(data.clone()).await.unwrap();
    up.finish().await.unwrap();

    let args = remote::StorageVolDownloadArgs { vol: vol.clone(), offset: 0, length: 0, flags: 0 };
    let ((), mut down) = client.open_stream::<procs::StorageVolDownload>(&args).await.unwrap();
    let mut back = Vec::new();
    while let Some(part) = down.recv().await.unwrap() {
        let StreamPart::Data(bytes) = part else { panic!("a hole in a stream that is not sparse") };
        back.extend_from_slice(&bytes);
    }
    down.finish().await.unwrap();
    assert!(back == data, "the volume changed on its way");

    // A stream that is given up is confirmed too, and the link lives on.
    let args = remote::StorageVolDownloadArgs { vol: vol.clone(), offset: 0, length: 0, flags: 0 };
    let ((), down) = client.open_stream::<procs::StorageVolDownload>(&args).await.unwrap();
    down.abort().await.unwrap();

    client.call::<procs::StorageVolDelete>(&remote::StorageVolDeleteArgs { vol, flags: 0 }).await.unwrap();
    client.call::<procs::StoragePoolDestroy>(&remote::StoragePoolDestroyArgs { pool }).await.unwrap();
}

#[tokio::test]
async fn descriptors_go_up() {
    let Some(client) = connect(&uri("qemu")).await else { return };
    // No guest of that id runs: the call fails, but only after its descriptor was taken and the frame understood.
    let dom = remote::NonnullDomain { name: unique("none"), uuid: [7; 16], id: 4_000_000 };
    let args = remote::DomainOpenGraphicsArgs { dom, idx: 0, flags: 0 };
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let failed =
        client.call_with_fds::<procs::DomainOpenGraphics>(&args, vec![ours.into()]).await.unwrap_err();
    assert_eq!(failed.code(), Code::NoDomain, "{failed:?}");
    client.call::<procs::ConnectGetLibVersion>(&()).await.unwrap();

    // A descriptor that is no socket is a bad argument: such errors have a text of their own and the function in str1.
    let dom = remote::NonnullDomain { name: unique("none"), uuid: [7; 16], id: 4_000_000 };
    let args = remote::DomainOpenGraphicsArgs { dom, idx: 0, flags: 0 };
    let file = std::fs::File::open("/dev/null").unwrap();
    let failed =
        client.call_with_fds::<procs::DomainOpenGraphics>(&args, vec![file.into()]).await.unwrap_err();
    let again = error_to_wire(&failed);
    assert_eq!((again.code, again.str2.as_deref(), again.int1), (Code::InvalidArg as i32, Some("fd"), 0));
    assert!(again.message.unwrap().ends_with("must be a socket"));
    assert_eq!((again.str1.as_deref(), again.int2), (Some("virDomainOpenGraphics"), 0));
}

/// What the reference takes and we take too, and where we are stricter on purpose: it ignores bytes after the value,
/// cuts text at a NUL and looks bytes that are no UTF-8 up as they are.
#[tokio::test]
async fn oddities_of_the_reference() {
    let Some(client) = connect("test:///default").await else { return };
    let look_up = |payload: Vec<u8>| {
        let strict = xdr::from_bytes::<remote::DomainLookupByNameArgs>(&payload);
        let client = client.clone();
        async move {
            let answer = client
                .call_raw(remote::PROGRAM.number, 1, procs::DomainLookupByName::NUMBER, payload.into())
                .await;
            (answer.is_ok(), strict)
        }
    };
    let args = || remote::DomainLookupByNameArgs { name: "test".into() };
    let (found, _) = look_up(xdr::to_bytes(&args()).unwrap()).await;
    if !found {
        eprintln!("skipped: the daemon has no test driver");
        return;
    }
    let (_, strict) = look_up([&[0, 0, 0, 5][..], b"other", &[1, 2, 3]].concat()).await;
    assert!(strict.is_ok(), "padding that is not zero");
    let (found, strict) = look_up([&[0, 0, 0, 4][..], b"test", &[0, 0, 0, 0]].concat()).await;
    assert_eq!((found, strict), (true, Err(XdrError::Leftover(4))));
    let (found, strict) = look_up([&[0, 0, 0, 6][..], b"test\0x", &[0, 0]].concat()).await;
    assert_eq!((found, strict), (true, Err(XdrError::Nul)));
    let (found, strict) = look_up([&[0, 0, 0, 4][..], b"te\xffx"].concat()).await;
    assert_eq!((found, strict), (false, Err(XdrError::NotUtf8)));
    // An optional flag that is neither 0 nor 1 is a yes: the second open is understood, and refused as such.
    let flag = [&[0, 0, 0, 2][..], &[0, 0, 0, 0], &[0, 0, 0, 0]].concat();
    assert_eq!(xdr::from_bytes::<remote::ConnectOpenArgs>(&flag).unwrap().name.as_deref(), Some(""));
    let e = client.call_raw(remote::PROGRAM.number, 1, 1, flag.into()).await.unwrap_err();
    assert_eq!(e.message(), "internal error: connection already open");
}
