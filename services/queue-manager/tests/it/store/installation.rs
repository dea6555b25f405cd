//! The id of an installation.

use super::{replica, server};

#[tokio::test]
async fn all_replicas_of_a_database_get_the_same_id() {
    let database = server().await;
    let (one, two) = (replica(&database).await, replica(&database).await);
    let (first, second) = tokio::join!(one.installation(), two.installation());
    let id = first.unwrap();
    assert_eq!(second.unwrap(), id);
    assert_eq!(id.len(), 32);
    assert_eq!(one.installation().await.unwrap(), id);
    let other = server().await;
    assert_ne!(replica(&other).await.installation().await.unwrap(), id);
}
