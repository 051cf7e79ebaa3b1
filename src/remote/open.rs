//! From a URL to its store: scheme, bucket, credentials and address.

use crate::error::{Error, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What the SQL file says about S3; the environment is asked for the rest.
#[derive(Clone, Default)]
pub struct Keys {
    pub endpoint: Option<String>,
    pub access_key: Option<String>,
    pub secret_key: Option<String>,
    pub region: Option<String>,
    pub path_style: Option<bool>,
}

impl Keys {
    /// Takes a setting by Flink's name for it; false when it is none of these.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let place = match name {
            "s3.endpoint" => &mut self.endpoint,
            "s3.access-key" => &mut self.access_key,
            "s3.secret-key" => &mut self.secret_key,
            "s3.region" => &mut self.region,
            _ => return false,
        };
        *place = Some(value.to_string());
        true
    }
}

impl fmt::Debug for Keys {
    /// No secret is ever printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({:?})", self.endpoint)
    }
}

/// Whether a place is a URL and no path: anything with `://` but `file://`.
pub fn is_url(place: &str) -> bool {
    place.contains("://") && !place.starts_with("file://")
}

/// The store of a URL, and the prefix in it.
pub(super) fn store(url: &str, keys: &Keys) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let wrong = |e: &dyn fmt::Display| Error::env(format!("cannot use {url}: {e}"));
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        let error = wrong(&"it names no bucket");
        return Err(error.with_hint("write it like s3://bucket/folder"));
    }
    let prefix = Path::parse(prefix).map_err(|e| wrong(&e))?;
    let store: object_store::Result<Arc<dyn ObjectStore>> = match scheme {
        "s3" | "s3a" => s3(bucket, keys)?
            .build()
            .map(|s| Arc::new(s) as Arc<dyn ObjectStore>),
        "gs" => GoogleCloudStorageBuilder::from_env()
            .with_url(url)
            .with_retry(retries())
            .build()
            .map(|s| Arc::new(s) as Arc<dyn ObjectStore>),
        "az" | "azure" | "abfs" | "abfss" => MicrosoftAzureBuilder::from_env()
            .with_url(url)
            .with_retry(retries())
            .build()
            .map(|s| Arc::new(s) as Arc<dyn ObjectStore>),
        _ => {
            return Err(
                wrong(&format!("'{scheme}://' is no store that windrow knows"))
                    .with_hint("it knows s3://, gs://, az:// and abfss://, and folders"),
            );
        }
    };
    Ok((store.map_err(|e| wrong(&e))?, prefix))
}

/// What is repeated below the waiting that people are told of.
fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: 2,
        retry_timeout: Duration::from_secs(10),
        ..RetryConfig::default()
    }
}

/// `own_key`: without the environment's key, and the token that belongs to it.
fn s3_of_environment(own_key: bool) -> AmazonS3Builder {
    let mut s3 = AmazonS3Builder::new();
    for (name, value) in std::env::vars_os() {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
            continue;
        };
        let key = name.starts_with("AWS_").then(|| name.to_ascii_lowercase());
        let Some(Ok(key)) = key.map(|k| k.parse::<AmazonS3ConfigKey>()) else {
            continue;
        };
        let is_key = matches!(
            key,
            AmazonS3ConfigKey::AccessKeyId
                | AmazonS3ConfigKey::SecretAccessKey
                | AmazonS3ConfigKey::Token
        );
        if !(is_key && own_key) {
            s3 = s3.with_config(key, value);
        }
    }
    s3
}

fn s3(bucket: &str, keys: &Keys) -> Result<AmazonS3Builder> {
    let mut s3 = s3_of_environment(keys.access_key.is_some())
        .with_bucket_name(bucket)
        .with_retry(retries());
    if keys.access_key.is_some() != keys.secret_key.is_some() {
        return Err(
            Error::env("'s3.access-key' and 's3.secret-key' go together")
                .with_hint("SET both, or neither and the environment's are used"),
        );
    }
    if let (Some(access), Some(secret)) = (&keys.access_key, &keys.secret_key) {
        s3 = s3.with_access_key_id(access).with_secret_access_key(secret);
    }
    if let Some(region) = &keys.region {
        s3 = s3.with_region(region);
    }
    let of_environment = |key| s3.get_config_value(&key).filter(|v| !v.is_empty());
    let endpoint = (keys.endpoint.clone())
        .or_else(|| of_environment(AmazonS3ConfigKey::S3Endpoint))
        .or_else(|| of_environment(AmazonS3ConfigKey::Endpoint));
    let virtual_hosts = keys.path_style.map(|path_style| !path_style);
    if let Some(virtual_hosts) = virtual_hosts {
        s3 = s3.with_virtual_hosted_style_request(virtual_hosts);
    }
    if let Some(mut endpoint) = endpoint {
        if !endpoint.contains("://") {
            endpoint = format!("https://{endpoint}");
        }
        endpoint.truncate(endpoint.trim_end_matches('/').len());
        // Who writes http means it.
        if endpoint.starts_with("http://") {
            s3 = s3.with_config(
                AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp),
                "true",
            );
        }
        if virtual_hosts == Some(true) {
            endpoint = endpoint.replacen("://", &format!("://{bucket}."), 1);
        }
        s3 = s3.with_config(AmazonS3ConfigKey::S3Endpoint, &endpoint);
    }
    Ok(s3)
}
