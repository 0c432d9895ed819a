use super::*;
use crate::remote::{self, events, procs};
use virt_error::{Code, Domain, Error};

fn call() -> Header {
    OutFrame::call_header::<procs::ConnectGetLibVersion>(7, MessageType::CALL)
}

fn received(frame: OutFrame) -> Frame {
    let bytes = frame.into_bytes();
    assert_eq!(frame_length(*bytes.first_chunk().unwrap()), Ok(bytes.len()));
    Frame::parse(bytes.into()).unwrap().0
}

#[test]
fn a_call_on_the_wire() {
    let args = remote::DomainLookupByNameArgs { name: "vm1".into() };
    let bytes = OutFrame::call::<procs::DomainLookupByName>(3, &args).unwrap().into_bytes();
    let words: [u32; 9] = [36, 0x2000_8086, 1, 23, 0, 3, 0, 3, u32::from_be_bytes(*b"vm1\0")];
    assert_eq!(bytes, words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>());
    let frame = Frame::parse(bytes.into()).unwrap().0;
    assert_eq!(frame.args::<procs::DomainLookupByName>().unwrap(), args);
}

#[test]
fn lengths() {
    let length = |n: u32| frame_length(n.to_be_bytes());
    for bad in [0, 3, 4, 27, FRAME_MAX as u32 + 1, u32::MAX] {
        assert_eq!(length(bad), Err(FrameError::Length(bad)));
    }
    assert_eq!(length(28), Ok(28));
    assert_eq!(length(FRAME_MAX as u32), Ok(FRAME_MAX));
}

#[test]
fn a_reply_copies_the_calls_numbers() {
    let frame =
        received(OutFrame::reply(call(), Ok(remote::ConnectGetLibVersionRet { lib_ver: 11_003_000 })));
    assert!(frame.header.same_matter(&call()));
    assert_eq!((frame.header.kind, frame.header.status), (MessageType::REPLY, Status::OK));
    assert_eq!(frame.decode::<remote::ConnectGetLibVersionRet>().unwrap().lib_ver, 11_003_000);
}

#[test]
fn errors_keep_template_and_info_apart() {
    let error = Error::new(Code::NoDomain, Domain::Qemu, "no domain with matching name 'x'").with_errno(2);
    let frame = received(OutFrame::reply(call(), Err::<(), _>(error)));
    assert_eq!(frame.header.status, Status::ERROR);
    let wire = frame.decode::<remote::Error>().unwrap();
    assert_eq!(wire.message.as_deref(), Some("Domain not found: no domain with matching name 'x'"));
    assert_eq!(wire.str1.as_deref(), Some("Domain not found: %1$s"));
    assert_eq!(wire.str2.as_deref(), Some("no domain with matching name 'x'"));
    assert_eq!((wire.code, wire.domain, wire.level, wire.int1, wire.int2), (42, 10, 2, 2, -1));
    let back = frame.error();
    assert_eq!((back.code(), back.errno(), back.context().len()), (Code::NoDomain, 2, 0));
}

#[test]
fn whatever_an_error_says_it_reaches_the_client() {
    let text = format!("tool said: \0{}", "é".repeat(5_000_000));
    let error = Error::internal(Domain::Qemu, text);
    let wire = received(OutFrame::error(call(), &error)).decode::<remote::Error>().unwrap();
    assert!(wire.str2.unwrap().starts_with("tool said: \u{fffd}é"));
}

#[test]
fn a_value_that_the_wire_cannot_carry_becomes_an_error() {
    let ret = remote::DomainGetXmlDescRet { xml: "a\0b".into() };
    let frame = received(OutFrame::reply(call(), Ok(ret)));
    assert_eq!((frame.header.status, frame.error().code()), (Status::ERROR, Code::Rpc));
}

#[test]
fn an_event() {
    let dom = remote::NonnullDomain { name: "vm".into(), uuid: [1; 16], id: -1 };
    let msg = remote::DomainEventCallbackLifecycleMsg {
        callback_id: 4,
        msg: remote::DomainEventLifecycleMsg { dom, event: 1, detail: 0 },
    };
    let frame = received(OutFrame::event::<events::DomainEventCallbackLifecycle>(&msg).unwrap());
    assert_eq!((frame.header.proc, frame.header.serial, frame.header.kind), (318, 1, MessageType::MESSAGE));
    assert_eq!(frame.event::<events::DomainEventCallbackLifecycle>(), Some(Ok(msg)));
    assert_eq!(frame.event::<events::DomainEventCallbackReboot>(), None);
}

#[test]
fn stream_frames() {
    let data = received(OutFrame::stream_data(call(), Bytes::from_static(b"abc")).unwrap());
    assert_eq!(
        (data.header.kind, data.header.status, &data.payload[..]),
        (MessageType::STREAM, Status::CONTINUE, &b"abc"[..])
    );
    let hole = received(OutFrame::stream_hole(call(), 1 << 33));
    assert_eq!(
        (hole.header.kind, &hole.payload[..]),
        (MessageType::STREAM_HOLE, &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0][..])
    );
    assert!(hole.header.same_matter(&call()));
    assert_eq!(received(OutFrame::stream_finish(call())).header.status, Status::OK);
    assert_eq!(received(OutFrame::stream_abort(call())).header.status, Status::ERROR);
    let error = Error::bare(Code::OperationFailed, Domain::Streams);
    assert_eq!(received(OutFrame::stream_error(call(), &error)).error().code(), Code::OperationFailed);
}

#[test]
fn keepalive_is_28_bytes() {
    let bytes = OutFrame::keepalive(crate::keepalive::PROC_PING).into_bytes();
    let words: [u32; 7] = [28, 0x6b65_6570, 1, 1, 2, 0, 0];
    assert_eq!(bytes, words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>());
}

#[test]
fn descriptor_counts_are_checked() {
    let header = Header { kind: MessageType::CALL_WITH_FDS, ..call() };
    let frame = |count: &[u8]| {
        let plain = OutFrame::raw(call(), Bytes::copy_from_slice(count)).unwrap();
        let mut bytes = plain.into_bytes();
        bytes[16..20].copy_from_slice(&header.kind.0.to_be_bytes());
        Frame::parse(bytes.into())
    };
    assert_eq!(
        frame(&[0, 0, 0, 32, 1, 2]).map(|(f, n)| (f.payload, n)).unwrap(),
        (Bytes::from_static(&[1, 2]), 32)
    );
    assert_eq!(frame(&[0, 0, 0, 33]).map(drop), Err(FrameError::Fds(33)));
    assert_eq!(frame(&[0, 0]).map(drop), Err(FrameError::Fds(0)));
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let bulk = Bytes::from(vec![0; BODY_MAX - HEADER_BYTES + 1]);
    assert!(matches!(OutFrame::stream_data(call(), bulk.clone()), Err(XdrError::TooLong { .. })));
    assert!(OutFrame::stream_data(call(), bulk.slice(1..)).is_ok());
}

use crate::xdr::XdrError;
