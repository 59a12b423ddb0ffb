"""What each page shows, gathered from the servers: one module a page. Whatever is down, a look returns."""
