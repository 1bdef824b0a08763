-- LÖVE's settings. With KV_HEADLESS set the game runs without a display and a bot plays it.

function love.conf(t)
  t.identity = "star-catcher"
  t.version = "11.4"
  t.window.title = "Star Catcher"
  t.window.width, t.window.height = 480, 640
  if os.getenv "KV_HEADLESS" then
    for _, module in ipairs { "window", "graphics", "audio", "sound", "joystick", "touch", "video",
      "mouse", "keyboard", "image", "font" } do
      t.modules[module] = false
    end
  end
end
