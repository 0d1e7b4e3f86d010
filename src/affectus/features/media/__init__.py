"""Video, sound and subtitles -> features; nothing leaves the machine."""
