//! What a host says instead of what was asked for.

use std::time::Duration;

use reqwest::Response;
use tokio::time::timeout;

/// The first bytes of a body: `most` of them at most, of what comes within `patience`. A body that breaks off or does not end is
/// what has come of it.
pub async fn beginning(mut answer: Response, most: usize, patience: Duration) -> Vec<u8> {
    let mut body: Vec<u8> = Vec::new();
    let read = async {
        while body.len() < most
            && let Ok(Some(piece)) = answer.chunk().await
        {
            let room = piece.len().min(most - body.len());
            body.extend_from_slice(piece.get(..room).unwrap_or_default());
        }
    };
    // What has come by then is what there is to look at.
    let _in_time = timeout(patience, read).await.is_ok();
    body
}
