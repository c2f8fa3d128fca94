"""What a release consists of: its manifest, its image, the formats of images and the store that keeps them."""
