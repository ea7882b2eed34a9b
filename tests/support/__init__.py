"""What several test files share: campaigns on disk, recorded traffic, stand-ins started by hand, the real `fab`."""
