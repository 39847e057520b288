"""Looking through a set of pictures one by one: their captions."""
