module confcom.example/e2e/tools/pause

go 1.24

tool confcom.example/e2e/tools/pause
