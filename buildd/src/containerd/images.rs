//! Images: names of manifests.

use std::collections::BTreeMap;

use buildd_api::containerd::containerd::services::images::v1::{
    CreateImageRequest, CreateImageResponse, DeleteImageRequest, GetImageRequest, GetImageResponse,
    Image as Wire, ListImagesRequest, ListImagesResponse, UpdateImageRequest, UpdateImageResponse,
    images_server::Images,
};
use buildd_store::meta::image::Image;
use tonic::{Request, Response, Status};

use super::{Services, convert, lease, namespace};
use crate::{
    filter::{Fields, Filters},
    status::Answer,
};

impl Fields for Image {
    fn field(&self, name: &str) -> Option<String> {
        match name {
            "name" => Some(self.name.clone()),
            "target.digest" => Some(self.target.digest.to_string()),
            "target.mediatype" => Some(self.target.media_type.clone()),
            _ => None,
        }
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }
}

fn wire(image: Image) -> Wire {
    Wire {
        target: Some(convert::to_descriptor(&image.target)),
        name: image.name,
        labels: image.labels.into_iter().collect(),
        created_at: convert::timestamp(image.created),
        updated_at: convert::timestamp(image.updated),
    }
}

fn required(image: Option<Wire>) -> Result<Wire, Status> {
    image
        .filter(|image| !image.name.is_empty())
        .ok_or_else(|| Status::invalid_argument("an image needs a name"))
}

#[tonic::async_trait]
impl Images for Services {
    async fn get(&self, request: Request<GetImageRequest>) -> Result<Response<GetImageResponse>, Status> {
        let ns = namespace(&request)?;
        let name = request.into_inner().name;
        let image = self.with_store(move |store| store.images.get(&ns, &name)).await?;
        Ok(Response::new(GetImageResponse { image: Some(wire(image)) }))
    }

    async fn list(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let ns = namespace(&request)?;
        let filters = Filters::parse(&request.into_inner().filters)?;
        let images = self.with_store(move |store| store.images.list(&ns)).await?;
        let images = images.into_iter().filter(|image| filters.matches(image)).map(wire).collect();
        Ok(Response::new(ListImagesResponse { images }))
    }

    async fn create(
        &self,
        request: Request<CreateImageRequest>,
    ) -> Result<Response<CreateImageResponse>, Status> {
        let (ns, lease) = (namespace(&request)?, lease(&request));
        let image = required(request.into_inner().image)?;
        self.leased(&ns, lease, "images".to_owned(), &image.name).await?;
        let target = convert::descriptor(image.target)?;
        let labels = convert::labels(image.labels)?;
        let image =
            self.with_store(move |store| store.images.create(&ns, &image.name, &target, &labels)).await?;
        Ok(Response::new(CreateImageResponse { image: Some(wire(image)) }))
    }

    async fn update(
        &self,
        request: Request<UpdateImageRequest>,
    ) -> Result<Response<UpdateImageResponse>, Status> {
        let (ns, lease) = (namespace(&request)?, lease(&request));
        let request = request.into_inner();
        let image = required(request.image)?;
        self.leased(&ns, lease, "images".to_owned(), &image.name).await?;
        let (name, mask) = (image.name.clone(), request.update_mask);
        let change = move |old: &mut Image| -> Result<(), Status> {
            let change = convert::masked(mask, &["target"], &old.labels, image.labels)?;
            if !change.fields.is_empty() {
                old.target = convert::descriptor(image.target)?;
            }
            if let Some(labels) = change.labels {
                old.labels = labels;
            }
            Ok(())
        };
        let image = self.with_store(move |store| store.images.update(&ns, &name, change)).await??;
        Ok(Response::new(UpdateImageResponse { image: Some(wire(image)) }))
    }

    async fn delete(&self, request: Request<DeleteImageRequest>) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let wanted = request.target.map(|target| target.digest).filter(|digest| !digest.is_empty());
        let wanted = wanted.map(|digest| convert::digest(&digest)).transpose()?;
        self.with_store(move |store| store.images.delete(&ns, &request.name, wanted.as_ref())).await?;
        self.collector.after_deletion(request.sync).await.or_status()?;
        Ok(Response::new(()))
    }
}
