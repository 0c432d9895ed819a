//! What every daemon's socket offers: health, reflection, survival of panics, drain.

use std::time::{Duration, Instant};

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use virt_error::{Code, Domain};
use virt_rpc::from_status;

use crate::harness::*;

#[tokio::test]
async fn a_panic_ends_one_call_only() {
    let host = Host::start().await;
    let daemon = host.daemon();
    let (broken, fine) = tokio::join!(command(&daemon, "panic"), command(&daemon, "echo x"));
    let error = from_status(&broken.unwrap_err());
    assert_eq!(error.message(), "internal error: the call failed unexpectedly");
    assert_eq!(fine.unwrap(), "x");
    assert_eq!(command(&daemon, "echo y").await.unwrap(), "y");
    assert_eq!(host.busy.count(), 0);
}

#[tokio::test]
async fn errors_reach_the_client_whole() {
    let host = Host::start().await;
    let status = command(&host.daemon(), "fail no domain with matching name 'x'").await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    let error = from_status(&status);
    assert_eq!((error.code(), error.domain()), (Code::NoDomain, Domain::Qemu));
    assert_eq!(error.message(), "Domain not found: no domain with matching name 'x'");
    // As long as an error can get.
    let status = command(&host.daemon(), &format!("fail {}", "é".repeat(50_000))).await.unwrap_err();
    assert_eq!(from_status(&status).code(), Code::NoDomain);
}

#[tokio::test]
async fn messages_up_to_the_limit_pass() {
    let host = Host::start().await;
    let daemon = host.daemon();
    let large = format!("echo {}", "x".repeat(31 * 1024 * 1024));
    assert_eq!(command(&daemon, &large).await.unwrap().len(), 31 * 1024 * 1024);
    let too_large = format!("echo {}", "x".repeat(33 * 1024 * 1024));
    assert!(command(&daemon, &too_large).await.is_err());
    command(&daemon, "who").await.unwrap();
}

#[tokio::test]
async fn health_and_reflection_are_there() {
    let host = Host::start().await;
    let channel = host.daemon().channel();
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "virt.domain.v1alpha1.MonitorService", "virt.session.v1alpha1.SessionService"] {
        let request = HealthCheckRequest { service: service.into() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service}");
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let stream = tokio_stream::iter([request]);
    let mut answers = reflection.server_reflection_info(stream).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("not a list")
    };
    let names: Vec<_> = list.service.iter().map(|s| s.name.as_str()).collect();
    for name in ["grpc.health.v1.Health", "virt.domain.v1alpha1.MonitorService"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!names.contains(&"virt.domain.v1alpha1.DomainService"), "not served here: {names:?}");
}

#[tokio::test]
async fn a_call_that_hangs_does_not_keep_the_daemon() {
    let host = Host::start_in(tempfile::tempdir().unwrap(), Duration::from_millis(300)).await;
    let daemon = host.daemon();
    let hanging = tokio::spawn(async move { command(&daemon, "hang").await });
    while host.busy.count() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let start = Instant::now();
    let (result, _dir) = host.stop().await;
    result.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(300) && start.elapsed() < Duration::from_secs(2));
    hanging.abort();
}

#[tokio::test]
async fn a_call_that_ends_in_time_is_answered() {
    let host = Host::start().await;
    let daemon = host.daemon();
    // Larger than the windows, so that it takes a while on the way.
    let text = format!("echo {}", "x".repeat(20 * 1024 * 1024));
    let call = tokio::spawn(async move { command(&daemon, &text).await });
    tokio::task::yield_now().await;
    while host.busy.count() == 0 && !call.is_finished() {
        tokio::task::yield_now().await;
    }
    let (result, _dir) = host.stop().await;
    result.unwrap();
    assert_eq!(call.await.unwrap().unwrap().len(), 20 * 1024 * 1024);
}
