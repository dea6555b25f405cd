//! The API over TLS.

use std::{fs, path::Path, time::Duration};

use axum::{Router, routing::get};
use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    x509::{X509, X509NameBuilder, extension::SubjectAlternativeName},
};
use queue_manager::connections::{Bounds, Server, Tls};
use tokio::{io::AsyncWriteExt, net::TcpListener, net::TcpStream, time::timeout};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

/// Writes a certificate for this machine that signs itself, and its key.
fn make(folder: &Path, serial: u32) -> reqwest::Certificate {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", &format!("manager {serial}"))
        .unwrap();
    let name = name.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    let serial = BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap();
    certificate.set_serial_number(&serial).unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    certificate
        .set_not_after(&Asn1Time::days_from_now(1).unwrap())
        .unwrap();
    certificate.set_pubkey(&key).unwrap();
    let mut names = SubjectAlternativeName::new();
    let names = names
        .ip("127.0.0.1")
        .build(&certificate.x509v3_context(None, None));
    certificate.append_extension(names.unwrap()).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    let pem = certificate.build().to_pem().unwrap();
    fs::write(
        folder.join("tls.key"),
        key.private_key_to_pem_pkcs8().unwrap(),
    )
    .unwrap();
    fs::write(folder.join("tls.crt"), &pem).unwrap();
    reqwest::Certificate::from_pem(&pem).unwrap()
}

fn client(ca: reqwest::Certificate) -> reqwest::Client {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .add_root_certificate(ca);
    // Each request a handshake.
    builder.pool_max_idle_per_host(0).build().unwrap()
}

#[tokio::test]
async fn a_changed_certificate_is_served_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
    let first = client(make(folder.path(), 1));
    let tls = Tls::with(&paths[0], &paths[1], Duration::ZERO).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("https://{address}/");
    let router = Router::new().route("/", get(|| async { "hello" }));
    let open = prometheus::IntGauge::new("open", "in a test").unwrap();
    let bounds = Bounds {
        head: Duration::from_secs(2),
        ..Bounds::of(8)
    };
    let server = Server::new(listener, router, bounds, open.clone()).over(Some(tls));
    tokio::spawn(server.run(CancellationToken::new()));
    let asked = async |client: &reqwest::Client| client.get(&url).send().await;
    assert_eq!(asked(&first).await.unwrap().text().await.unwrap(), "hello");
    // A key that is not the certificate's, and one that is none.
    let good = fs::read(&paths[1]).unwrap();
    let other = tempfile::tempdir().unwrap();
    make(other.path(), 9);
    for bad in [
        fs::read(other.path().join("tls.key")).unwrap(),
        b"none".to_vec(),
    ] {
        fs::write(&paths[1], bad).unwrap();
        assert!(asked(&first).await.is_ok());
        assert!(Tls::open(&paths[0], &paths[1]).is_err());
    }
    fs::write(&paths[1], good).unwrap();
    let second = client(make(folder.path(), 2));
    assert!(asked(&second).await.is_ok());
    assert!(asked(&first).await.is_err(), "it is another certificate");
    // Who speaks no TLS gets nothing, and who never finishes the handshake keeps no place.
    let plain = reqwest::get(format!("http://{address}/")).await;
    assert!(plain.is_err());
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(&[0x16, 3, 1]).await.unwrap();
    let left = async {
        while open.get() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, left).await.unwrap();
}
